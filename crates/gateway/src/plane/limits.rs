//! Every bound of the data plane in one place.

use std::time::Duration;

/// How often it is looked who has waited too long.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// A client has so long to send the whole head of a request, from its first byte or from the connection.
pub(crate) const HEAD_READ: Duration = Duration::from_secs(30);
/// After so long without a request a connection of HTTP/1 is reduced to its socket.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// A connection without a request is kept so long.
pub(crate) const IDLE: Duration = Duration::from_secs(75);
/// A client that takes nothing of what it is sent is waited for so long.
pub(crate) const STALLED_WRITE: Duration = Duration::from_secs(60);
/// The body of a request comes this fast on the average, in bytes per tick ...
pub(crate) const BODY_PACE: u64 = 256;
/// ... once it was waited for so long, ...
pub(crate) const BODY_GRACE: Duration = Duration::from_secs(20);
/// ... and never stands still so long.
pub(crate) const BODY_SILENCE: Duration = Duration::from_secs(60);
/// What a client still sends after the last answer of its connection is read so long, so that the answer is not lost ...
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// ... and so much of it.
pub(crate) const LINGER_BYTES: usize = 1024 * 1024;
/// A TLS handshake, from the connection to its end.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// Making a connection to a backend.
pub(crate) const CONNECT: Duration = Duration::from_secs(2);
/// From the request to the head of the backend's answer, where the route says nothing else.
pub(crate) const ANSWER: Duration = Duration::from_secs(60);
/// An upstream connection is closed after being idle so long; shorter than the usual five seconds of servers, so that we close
/// first.
pub(crate) const UPSTREAM_IDLE: Duration = Duration::from_secs(4);
/// How often idle upstream connections are looked through.
pub(crate) const IDLE_SWEEP: Duration = Duration::from_secs(1);
/// A copy of a request is given up after so long, counted from the request.
pub(crate) const MIRROR: Duration = Duration::from_secs(15);
/// Between two attempts at a request whose route wants another, where it does not say how long.
pub(crate) const RETRY_BACK_OFF: Duration = Duration::from_millis(25);
/// It doubles with each attempt, so many times.
pub(crate) const BACK_OFF_DOUBLINGS: u32 = 5;
/// Whoever sent a body that is to be sent again lets go of it in this time.
pub(crate) const GIVEN_BACK: Duration = Duration::from_secs(1);
/// A listener that is closed waits so long for handshakes that have begun.
pub(crate) const LAST_HANDSHAKES: Duration = Duration::from_millis(100);
/// Those whom it let in have so long to ask, before the table goes that has its routes.
pub(crate) const LAST_REQUESTS: Duration = Duration::from_millis(200);
/// A worker closes its socket in this time.
pub(crate) const CLOSED: Duration = Duration::from_secs(5);
/// Who asks for nothing so long is let go when its listener is gone or the gateway stops. Until then the next answer tells it, for
/// a request may be on its way: a connection that is closed under it would lose it.
pub(crate) const LAST_WORD: Duration = Duration::from_secs(1);
/// Requests in flight have so long when the gateway stops.
pub(crate) const SHUTDOWN_DRAIN: Duration = Duration::from_secs(10);
/// After so many failures in a row a pod is left out ...
pub(crate) const FAILURES_IN_A_ROW: u32 = 5;
/// ... for so long, which doubles with each failure on probation, so many times.
pub(crate) const EXCLUSION: Duration = Duration::from_secs(5);
pub(crate) const EXCLUSION_DOUBLINGS: u32 = 3;
/// Who has answered well for so long since is no longer on probation.
pub(crate) const PROBATION: Duration = Duration::from_secs(30);
/// A candidate is spared after so many failures in a row, or when this part of at least so many requests in this time failed ...
pub(crate) const SICK_IN_A_ROW: u32 = 10;
pub(crate) const SICK_RATE: f64 = 0.5;
pub(crate) const SICK_LEAST: u32 = 20;
pub(crate) const SICK_WINDOW: Duration = Duration::from_secs(30);
/// ... for so long, which doubles with each failure on probation, so many times; so many good answers end the probation.
pub(crate) const SICK_PAUSE: Duration = Duration::from_secs(5);
pub(crate) const SICK_DOUBLINGS: u32 = 3;
pub(crate) const SICK_GOOD: u32 = 10;
/// A version that nobody can stand in for is spared after so many requests in a row without any answer, for so short a time: it may
/// be back at any moment.
pub(crate) const SILENT_IN_A_ROW: u32 = 20;
pub(crate) const SILENT_PAUSE: Duration = Duration::from_millis(50);
/// Requests at a time that find out whether a spared version is well again.
pub(crate) const PROBES: u32 = 3;
/// Requests of one worker that one version has at a time; further ones go elsewhere or are refused. As many as there can be
/// connections: only streams of HTTP/2 can be more.
pub(crate) const VERSION_REQUESTS: usize = CONNECTIONS;
/// When clients may ask again, in seconds.
pub(crate) const RETRY_AFTER: u16 = 1;
/// A new pod gets its whole part of the requests after so long, and this part of it at once.
pub(crate) const SLOW_START: Duration = Duration::from_secs(10);
pub(crate) const COLD: f64 = 0.1;
/// The time over which a pod's answers are averaged; those that take less than `ALIKE` are equally fast.
pub(crate) const MEAN_OVER: Duration = Duration::from_secs(10);
pub(crate) const ALIKE: Duration = Duration::from_millis(1);
/// Lines of the access log have so long to be written when the gateway stops.
pub(crate) const LOG_DRAIN: Duration = Duration::from_secs(1);
/// Pause before accepting again when the process is out of descriptors.
pub(crate) const ACCEPT_BACK_OFF: Duration = Duration::from_millis(20);

/// Attempts at a request, the first one included.
pub(crate) const ATTEMPTS: usize = 3;
/// Further attempts that a route can ask for, and those it gets when it does not say how many.
pub(crate) const RETRIES: u32 = 10;
pub(crate) const DEFAULT_RETRIES: u32 = 2;
/// One retry for so many requests (20 %), ...
pub(crate) const REQUESTS_PER_RETRY: u64 = 5;
/// ... and besides so many in a second.
pub(crate) const RETRIES_PER_SECOND: u64 = 10;
/// Retries that were not needed are saved for later up to this number.
pub(crate) const RETRIES_SAVED: u64 = 100;
/// Bodies that one worker keeps at a time to send them once more; those of further requests are not kept.
pub(crate) const KEPT_BODIES: usize = 256;
/// Lines of the access log that wait to be written, and their bytes; further ones are dropped.
pub(crate) const LOG_LINES: usize = 8192;
pub(crate) const LOG_BYTES: usize = 4 * 1024 * 1024;
/// Client connections of one worker; further ones wait in the listener's queue.
pub(crate) const CONNECTIONS: usize = 16_384;
/// Those of them from one address that is not a trusted proxy's; further ones are closed at once. Nobody takes the last quarter alone.
pub(crate) const CONNECTIONS_PER_SOURCE: u32 = 12_288;
/// TLS handshakes of one worker beyond the client's first message; further ones wait.
pub(crate) const HANDSHAKES: usize = 1024;
/// Kinds of TLS with backends that one worker has ready; beyond, it forgets all of them and makes those again that it needs.
pub(crate) const SECURED: usize = 1024;
/// Kinds of TLS with clients that show certificates, likewise.
pub(crate) const ASKING: usize = 1024;
/// Connections waiting to be accepted, for each worker.
pub(crate) const BACKLOG: u32 = 1024;
/// Copies of requests that one worker has on their way to mirrors; further ones are not made.
pub(crate) const MIRRORS: usize = 128;
/// Requests whose answers one worker compares at a time; of further ones there is no copy.
pub(crate) const COMPARISONS: usize = 64;
/// Their answers that wait for the comparing thread; further ones are dropped.
pub(crate) const COMPARISONS_WAITING: usize = 256;
/// Of an answer so much is kept to be compared, by its fingerprint beyond; what is longer than the second is not compared.
pub(crate) const COMPARED_KEPT: usize = 128 * 1024;
pub(crate) const COMPARED_BODY: u64 = 16 * 1024 * 1024;
/// Pairs of versions whose comparisons are remembered; beyond, those are forgotten that nothing was added to for the longest time.
pub(crate) const BOOKS: usize = 32;
/// Places of a pair whose differences stand in `/metrics`: those that differ most.
pub(crate) const COMPARED_PLACES: usize = 50;
/// A request's body is kept, to be sent once more, up to so many bytes.
pub(crate) const KEPT_BODY: usize = 64 * 1024;
/// Idle upstream connections that one worker keeps to one endpoint.
pub(crate) const IDLE_PER_ENDPOINT: usize = 128;
/// Requests at a time on one HTTP/2 connection to a backend; beyond, there is another connection. Those that a backend does not
/// want yet wait on theirs.
pub(crate) const STREAMS_PER_CONNECTION: usize = 100;
/// A backend on HTTP/2 is asked so often whether it is still there, ...
pub(crate) const PING: Duration = Duration::from_secs(10);
/// ... and given up when it does not say so in this time.
pub(crate) const PONG: Duration = Duration::from_secs(10);
/// Bytes of a request's or answer's head.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;
/// Header fields of a request or answer: as many as hyper has room for without asking for memory, with each head.
pub(crate) const HEADERS: usize = 100;
/// Characters of a request's target.
pub(crate) const TARGET_BYTES: usize = 16 * 1024;
/// Characters of a request's method.
pub(crate) const METHOD_BYTES: usize = 64;
/// Bytes of one header field of a request of HTTP/1.
pub(crate) const FIELD_BYTES: usize = 32 * 1024;
/// Bytes of all extensions of a request's chunks, which nobody wants.
pub(crate) const CHUNK_EXTENSIONS: usize = 4 * 1024;
/// Bytes of a request's trailers.
pub(crate) const TRAILER_BYTES: usize = 8 * 1024;
/// Streams at a time on one HTTP/2 connection.
pub(crate) const H2_STREAMS: u32 = 256;
/// Streams that a client of HTTP/2 has reset before anybody looked at them, ...
pub(crate) const H2_EARLY_RESETS: usize = 32;
/// ... and those that its own mistakes made us reset: with more of either the connection ends.
pub(crate) const H2_OWN_RESETS: usize = 64;
/// Bytes of an answer that wait for the window of a client of HTTP/2, for each stream.
pub(crate) const H2_SEND_BUFFER: usize = 64 * 1024;
/// Versions, and routes, with counters of their own per worker; beyond, those that no worker counts on are folded away.
pub(crate) const METERED: usize = 4096;
