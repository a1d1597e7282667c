//! Archives written by the `tar` crate and by hand, read back; and bytes that nobody meant to be an archive.

use proptest::prelude::*;

use super::*;

fn raw(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(1);
    header.set_gid(2);
    header.set_mtime(3);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Entries as `kind path mode size content`.
fn show(bytes: &[u8]) -> String {
    let mut reader = TarReader::new(bytes);
    let mut lines = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => {
                let mut file = vec![b'.'; usize::try_from(entry.size.min(100)).expect("small")];
                let read = reader.content(&entry, &mut [0; 7], |at, bytes| {
                    for (at, byte) in (usize::try_from(at).expect("small")..).zip(bytes) {
                        // Only the beginning of large files is shown.
                        file.get_mut(at).into_iter().for_each(|shown| *shown = *byte);
                    }
                    Ok(())
                });
                let content = read.map_or_else(|e| format!("! {e}"), |()| String::from_utf8_lossy(&file).into_owned());
                lines.push(format!("{:?} {} {content}", entry.kind, String::from_utf8_lossy(&entry.path)));
            }
            Ok(None) => break,
            Err(error) => {
                lines.push(format!("! {error}"));
                break;
            }
        }
    }
    lines.join("\n")
}

#[test]
fn long_names_come_in_three_writings() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    builder.append_data(&mut header, &long, &b"hi"[..]).expect("written");
    assert_eq!(show(&builder.into_inner().expect("an archive")), format!("File {long} hi"));

    let record = format!("path={long}\n");
    let length = record.len() + 4;
    let pax = [raw(b'x', "x", format!("{length} {record}").as_bytes()), raw(b'0', "short", b"hi")].concat();
    assert_eq!(show(&pax), format!("File {long} hi"));

    let mut ustar = tar::Header::new_ustar();
    ustar.set_path(format!("{}/{}", "d".repeat(99), "f".repeat(99))).expect("fits with its prefix");
    ustar.set_size(0);
    ustar.set_cksum();
    assert_eq!(show(ustar.as_bytes()), format!("File {}/{} ", "d".repeat(99), "f".repeat(99)));
}

#[test]
fn files_may_have_holes() {
    // Old GNU: two pieces, "ab" at 1 and "c" at 5, in a file of 7.
    let mut block = raw(b'S', "old", b"abc");
    let mut put = |at: usize, n: u64| block[at..at + 12].copy_from_slice(format!("{n:011o}\0").as_bytes());
    for (at, n) in [(386, 1), (398, 2), (410, 5), (422, 1), (483, 7)] {
        put(at, n);
    }
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&block[..512]);
    header.set_cksum();
    block[..512].copy_from_slice(header.as_bytes());
    assert_eq!(show(&block), "File old .ab..c.");

    let pax = |records: &[&str]| {
        let text: String = records
            .iter()
            .map(|r| {
                let length = r.len() + 4;
                format!("{length} {r}\n")
            })
            .collect();
        raw(b'x', "x", text.as_bytes())
    };
    let v01 = [pax(&["GNU.sparse.size=7", "GNU.sparse.map=1,2,5,1"]), raw(b'0', "v01", b"abc")].concat();
    assert_eq!(show(&v01), "File v01 .ab..c.");
    let mut content = b"2\n1\n2\n5\n1\n".to_vec();
    content.resize(512, 0);
    content.extend(b"abc");
    let v10 = [
        pax(&["GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=7", "GNU.sparse.name=v10x"]),
        raw(b'0', "v10", &content),
    ]
    .concat();
    assert_eq!(show(&v10), "File v10x .ab..c.");
    let overlapping = [pax(&["GNU.sparse.size=7", "GNU.sparse.map=1,2,2,1"]), raw(b'0', "v01", b"abc")].concat();
    assert_eq!(show(&overlapping), "! entry 2: pieces of a sparse file that overlap");
}

#[test]
fn wrong_archives_are_named() {
    let good = raw(b'0', "a", b"hello");
    assert_eq!(show(&good), "File a hello");
    assert_eq!(show(&good[..600]), "File a hello", "the last padding may be missing");
    assert_eq!(show(&good[..514]).lines().next(), Some("File a ! the archive ends in the middle of an entry"));
    assert_eq!(show(&good[..300]), "! the archive ends in the middle of an entry");
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    assert_eq!(show(&flipped), "! entry 1: the header's checksum is wrong");
    assert_eq!(show(&raw(b'Q', "a", b"")), "! entry 1: unknown type `Q`");
    assert_eq!(show(&raw(b'5', "d/", b"")), "Directory d/ ");
    let long = raw(b'L', "x", &vec![b'a'; 2 << 20]);
    assert_eq!(show(&long), "! entry 1: long name of 2097152 bytes, more than 1048576");
    assert_eq!(show(&[]), "");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(blocks in prop::collection::vec(any::<u8>(), 0..4096)) {
        show(&blocks);
    }

    #[test]
    fn no_damage_makes_it_panic(
        kind in prop::sample::select(b"01234567SxgLKVQ".to_vec()),
        content in prop::collection::vec(any::<u8>(), 0..1200),
        at in 0usize..512, byte in any::<u8>(),
    ) {
        let mut bytes = [raw(kind, "name", &content), raw(b'0', "next", b"x")].concat();
        bytes[at] = byte;
        // With the checksum right again, the damage reaches what lies behind it.
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&bytes[..512]);
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        show(&bytes);
    }

    #[test]
    fn no_pax_text_makes_it_panic(text in "[0-9]{1,2} (GNU.sparse.(map|size|offset|numbytes|major)|path|mtime|size)=[-0-9,.]{0,6}\n") {
        show(&[raw(b'x', "x", text.as_bytes()), raw(b'0', "next", b"x")].concat());
    }
}
