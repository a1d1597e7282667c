//! Lines of output as CRI log lines: `<time> <stream> <F|P> <content>`.

/// Longer lines are cut into partial ones of this size.
pub(crate) const MAX_PARTIAL_BYTES: usize = 16 * 1024;

/// Cuts one stream of one container into lines. Pure: bytes and a time in, framed bytes out.
#[derive(Debug)]
pub(crate) struct Framer {
    stream: &'static str,
    line: Vec<u8>,
}

impl Framer {
    pub(crate) fn new(stream: &'static str) -> Self {
        Self { stream, line: Vec::new() }
    }

    /// Appends every line that these bytes complete to `out`.
    pub(crate) fn push(&mut self, mut bytes: &[u8], time: &str, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = MAX_PARTIAL_BYTES - self.line.len();
            let end = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            match end {
                Some(end) => {
                    self.line.extend_from_slice(&bytes[..end]);
                    self.emit(b'F', time, out);
                    bytes = &bytes[end + 1..];
                }
                None if bytes.len() > room => {
                    self.line.extend_from_slice(&bytes[..room]);
                    self.emit(b'P', time, out);
                    bytes = &bytes[room..];
                }
                None => {
                    self.line.extend_from_slice(bytes);
                    return;
                }
            }
        }
    }

    /// Bytes of a line that is not whole yet.
    pub(crate) fn pending(&self) -> usize {
        self.line.len()
    }

    /// The stream has ended: what it left without a newline is a line too.
    pub(crate) fn finish(&mut self, time: &str, out: &mut Vec<u8>) {
        if !self.line.is_empty() {
            self.emit(b'F', time, out);
        }
    }

    fn emit(&mut self, tag: u8, time: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(time.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.stream.as_bytes());
        out.extend_from_slice(&[b' ', tag, b' ']);
        out.append(&mut self.line);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the chunks and shows each framed line as its tag and length, or its text when short.
    fn check(chunks: &[&[u8]], expected: &str) {
        let (mut framer, mut out) = (Framer::new("stdout"), Vec::new());
        for chunk in chunks {
            framer.push(chunk, "T", &mut out);
        }
        framer.finish("T", &mut out);
        let lines: Vec<String> = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let line = String::from_utf8_lossy(line);
                let content = line.strip_prefix("T stdout ").expect("a framed line");
                if content.len() < 40 { content.to_owned() } else { format!("{} {}", &content[..1], content.len() - 2) }
            })
            .collect();
        assert_eq!(lines.join("|"), expected);
    }

    #[test]
    fn lines_come_out_whole_however_they_went_in() {
        check(&[b"one\ntwo\n"], "F one|F two");
        check(&[b"o", b"ne", b"\n", b"\n", b"two"], "F one|F |F two");
        check(&[], "");
    }

    #[test]
    fn long_lines_are_cut_at_16_kib() {
        let text = vec![b'x'; 3 * MAX_PARTIAL_BYTES];
        for (length, expected) in [
            (MAX_PARTIAL_BYTES - 1, "F 16383"),
            (MAX_PARTIAL_BYTES, "F 16384"),
            (MAX_PARTIAL_BYTES + 1, "P 16384|F x"),
            (2 * MAX_PARTIAL_BYTES, "P 16384|F 16384"),
        ] {
            check(&[&text[..length], b"\n"], expected);
            check(&[&[&text[..length], b"\n"].concat()], expected);
        }
    }
}
