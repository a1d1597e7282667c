//! Where each request of an HTTP/1 connection begins and ends, told without doubt or not at all.
//!
//! Whoever reads a request in two ways can be made to see two requests in one. So the bytes of a client pass here before anything
//! else reads them, and what RFC 9112 leaves to the taste of the reader is refused: lines that end without CR, folded lines,
//! space before a colon, a length said twice or in two ways, codings other than a single `chunked`. No sockets, no clock.

mod chunked;
mod lines;

use memchr::memchr;

use self::chunked::Chunked;
use self::lines::Lines;
use super::limits;

/// What is wrong with a request's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the request target is too long")]
    TargetTooLong,
    #[error("the request's head is too large")]
    HeadTooLarge,
    /// Never found here: whoever has a clock says so.
    #[error("the request's head did not come in time")]
    HeadTooSlow,
}

/// What is to be done with bytes that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many of them are as they should be.
    Pass(usize),
    /// So many of them say nothing.
    Skip(usize),
    /// They are the beginning of a head that is to be looked at as a whole, with more bytes behind them.
    More,
    /// They belong to whatever the connection becomes, which is not decided yet.
    Undecided,
    Refuse(Fault),
}

/// Follows one connection from request to request.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    /// After the request under way it is to be decided what the connection becomes.
    asks_for_upgrade: bool,
}

#[derive(Debug)]
enum State {
    /// Between two requests, or in the head of one.
    Head(Lines),
    /// So many bytes of a body are missing.
    Length(u64),
    Chunked(Chunked),
    Undecided,
    /// Something else is spoken from here on.
    Open,
}

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
}

impl Default for Framing {
    fn default() -> Self {
        Self { state: State::Head(Lines::default()), asks_for_upgrade: false }
    }
}

impl Framing {
    /// For `bytes`, which begin where those end that were passed or skipped last. After a refusal there is nothing more to ask.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Step {
        match &mut self.state {
            State::Head(lines) => match read_head(lines, bytes) {
                Ok(None) => Step::More,
                Ok(Some(end)) if lines.is_empty() => {
                    *lines = Lines::default();
                    Step::Skip(end)
                }
                Ok(Some(end)) => match lines.body() {
                    Ok(body) => {
                        self.asks_for_upgrade = lines.asks_for_upgrade();
                        self.state = match body {
                            Body::Length(length) => State::Length(length),
                            Body::Chunked => State::Chunked(Chunked::default()),
                        };
                        self.ended();
                        Step::Pass(end)
                    }
                    Err(fault) => Step::Refuse(fault),
                },
                Err(fault) => Step::Refuse(fault),
            },
            State::Length(missing) => {
                let passed = usize::try_from(*missing).map_or(bytes.len(), |missing| missing.min(bytes.len()));
                *missing -= passed as u64;
                self.ended();
                Step::Pass(passed)
            }
            State::Chunked(chunked) => match chunked.read(bytes) {
                Ok(passed) => {
                    self.ended();
                    Step::Pass(passed)
                }
                Err(fault) => Step::Refuse(fault),
            },
            State::Undecided => Step::Undecided,
            State::Open => Step::Pass(bytes.len()),
        }
    }

    /// Goes on to the next head where a body is over.
    fn ended(&mut self) {
        let over = match &self.state {
            State::Length(missing) => *missing == 0,
            State::Chunked(chunked) => chunked.is_over(),
            State::Head(_) | State::Undecided | State::Open => false,
        };
        if over {
            let undecided = std::mem::take(&mut self.asks_for_upgrade);
            self.state = if undecided { State::Undecided } else { State::Head(Lines::default()) };
        }
    }

    /// Something else than HTTP/1 follows.
    pub(crate) fn open(&mut self) {
        self.state = State::Open;
    }

    /// The connection stays one of HTTP/1.
    pub(crate) fn go_on(&mut self) {
        self.asks_for_upgrade = false;
        if matches!(self.state, State::Undecided) {
            self.state = State::Head(Lines::default());
        }
    }

    pub(crate) fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    pub(crate) fn is_in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_))
    }
}

/// Reads lines up to the empty one, and says where that ends.
fn read_head(lines: &mut Lines, bytes: &[u8]) -> Result<Option<usize>, Fault> {
    while let Some(length) = bytes.get(lines.searched..).and_then(|rest| memchr(b'\n', rest)) {
        let end = lines.searched + length + 1;
        let line = bytes[lines.read..end]
            .strip_suffix(b"\r\n")
            .ok_or(Fault::Malformed("a line of a request's head ends with CR and LF"))?;
        (lines.read, lines.searched) = (end, end);
        if line.is_empty() {
            return Ok(Some(end));
        }
        if end > limits::HEAD_BYTES {
            return Err(Fault::HeadTooLarge);
        }
        lines.take(line)?;
    }
    lines.searched = bytes.len();
    lines.check_unfinished(bytes.len() - lines.read)?;
    if bytes.len() > limits::HEAD_BYTES { Err(Fault::HeadTooLarge) } else { Ok(None) }
}

#[cfg(test)]
mod tests;
