use super::*;
use proptest::prelude::*;

/// What becomes of these bytes when they come in pieces of at most `size`: how many requests, which bytes passed, and the fault.
fn framed(bytes: &[u8], size: usize) -> (usize, Vec<u8>, Option<Fault>) {
    let (mut framing, mut held, mut passed, mut requests) = (Framing::default(), Vec::new(), Vec::new(), 0);
    for piece in bytes.chunks(size) {
        held.extend_from_slice(piece);
        while !held.is_empty() {
            let in_head = matches!(framing.state, State::Head(_));
            match framing.step(&held) {
                Step::Pass(count) => {
                    passed.extend(held.drain(..count));
                    requests += usize::from(in_head);
                }
                Step::Skip(count) => drop(held.drain(..count)),
                Step::More | Step::Undecided => break,
                Step::Refuse(fault) => return (requests, passed, Some(fault)),
            }
        }
    }
    (requests, passed, None)
}

#[test]
fn requests_are_told_apart_whatever_the_pieces() {
    let two = b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc\r\nGET / HTTP/1.1\r\nhost: b\r\n\r\n";
    let chunked =
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\nA;x=y\r\n0123456789\r\n0\r\nx: 1\r\n\r\n\
        GET / HTTP/1.0\r\n\r\n";
    for size in [1, 2, 3, 7, 1000] {
        let (requests, passed, fault) = framed(two, size);
        assert_eq!((requests, fault, passed.len()), (2, None, two.len() - 2), "the empty line between says nothing");
        assert_eq!(framed(chunked, size), (2, chunked.to_vec(), None));
    }
}

#[test]
fn what_follows_a_wish_for_another_protocol_waits() {
    let bytes = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nGET /early HTTP/1.1\r\n\r\n";
    let mut framing = Framing::default();
    let Step::Pass(head) = framing.step(bytes) else { panic!("a whole head") };
    assert_eq!(framing.step(&bytes[head..]), Step::Undecided);
    framing.go_on();
    assert_eq!(framing.step(&bytes[head..]), Step::Pass(bytes.len() - head), "a request after all");
    framing.open();
    assert_eq!(framing.step(b"\0\n"), Step::Pass(2));
}

#[test]
fn heads_have_bounds() {
    let fault = |bytes: &[u8]| framed(bytes, 4096).2;
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(length - 1)).into_bytes();
    assert_eq!(fault(&target(limits::TARGET_BYTES)), None);
    assert_eq!(fault(&target(limits::TARGET_BYTES + 1)), Some(Fault::TargetTooLong));
    assert_eq!(fault(&vec![b'x'; 2 * limits::TARGET_BYTES]), Some(Fault::TargetTooLong), "without an end of the line");
    let fields = |count: usize, length: usize| {
        let field = format!("x: {}\r\n", "y".repeat(length - 3));
        format!("GET / HTTP/1.1\r\n{}\r\n", field.repeat(count)).into_bytes()
    };
    assert_eq!(fault(&fields(limits::HEADERS, 10)), None);
    assert_eq!(fault(&fields(limits::HEADERS + 1, 10)), Some(Fault::HeadTooLarge));
    assert_eq!(fault(&fields(1, limits::FIELD_BYTES)), None);
    assert_eq!(fault(&fields(1, limits::FIELD_BYTES + 1)), Some(Fault::HeadTooLarge));
    assert_eq!(fault(&fields(1, 3 * limits::FIELD_BYTES)[..2 * limits::FIELD_BYTES]), Some(Fault::HeadTooLarge));
    assert_eq!(
        fault(&fields(1 + limits::HEAD_BYTES / limits::FIELD_BYTES, limits::FIELD_BYTES)),
        Some(Fault::HeadTooLarge)
    );
}

#[test]
fn chunks_have_bounds() {
    let fault = |body: &[u8]| {
        framed(&[b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", body].concat(), 4096).2
    };
    let extension = |length: usize| format!("0;{}\r\n\r\n", "x".repeat(length)).into_bytes();
    assert_eq!(fault(&extension(limits::CHUNK_EXTENSIONS)), None);
    assert!(fault(&extension(limits::CHUNK_EXTENSIONS + 1)).is_some());
    let trailer = |length: usize| format!("0\r\nx:{}\r\n\r\n", "y".repeat(length - 2)).into_bytes();
    assert_eq!(fault(&trailer(limits::TRAILER_BYTES)), None);
    assert!(fault(&trailer(limits::TRAILER_BYTES + 1)).is_some());
    assert!(fault(format!("0\r\n{}\r\n", "x:\r\n".repeat(limits::HEADERS + 1)).as_bytes()).is_some());
    assert_eq!(fault(b"0000000000000000\r\n\r\n"), None);
    for body in [
        "00000000000000000\r\n\r\n",
        "1\nx\r\n",
        "1\r\nxx\r\n",
        "1 \r\nx\r\n",
        "\r\n",
        "g\r\n",
        "+1\r\nx\r\n",
        "0x1\r\nx",
        "1;a\nx",
        "0\r\nx\r\n\r\n",
        "0\r\n\n",
    ] {
        assert!(fault(body.as_bytes()).is_some(), "{body:?}");
    }
}

proptest! {
    #[test]
    fn pieces_change_nothing(bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), any::<u8>()], 0..200), size in 1usize..20) {
        let all = [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", bytes.as_slice()].concat();
        let whole = framed(&all, all.len());
        let pieces = framed(&all, size);
        prop_assert_eq!((whole.0, whole.2), (pieces.0, pieces.2));
    }
}
