//! One client connection: what is asked on it, with HTTP/1 or HTTP/2, and the silence in between.
//!
//! Most connections are silent most of the time, so silence is what must be cheap. A connection of HTTP/1 on which nothing was asked
//! for a moment is taken apart, and what is left of it is its socket; it is put together again around the next head, once that is
//! whole. Its guard stays and knows whether it may be taken apart: between two requests, when nothing of one or of an answer is on its
//! way.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::accept::OnThisThread;
use super::body::ClientBody;
use super::guard::{Guard, Spoken};
use super::limits;
use super::patience::Late;

/// Holds the connection until either side ends it.
pub(crate) async fn hold<S, F, A>(mut guard: Guard<S>, stopping: watch::Receiver<bool>, serve: F) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A + Clone,
    A: Future<Output = Result<Response<ClientBody>, Infallible>> + 'static,
{
    loop {
        let mut stop = stopping.clone();
        let spoken = tokio::select! {
            spoken = poll_fn(|cx| guard.poll_spoken(cx)) => spoken,
            // Nobody has asked for anything, but a request may be on its way: there is a moment for it.
            () = async { stop.wait_for(|stopping| *stopping).await.map_or((), drop) } => {
                guard.watch().leave();
                poll_fn(|cx| guard.poll_spoken(cx)).await
            }
        };
        // In boxes, so that a silent connection does not have their size.
        guard = match spoken {
            None => return Ok(()),
            Some(Spoken::Http2) => return Box::pin(speak_http2(guard, stopping, serve)).await,
            Some(Spoken::Http1) => match Box::pin(speak_http1(guard, stopping.clone(), serve.clone())).await? {
                None => return Ok(()),
                Some(guard) => guard,
            },
        };
    }
}

async fn speak_http2<S, F, A>(guard: Guard<S>, mut stopping: watch::Receiver<bool>, serve: F) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response<ClientBody>, Infallible>> + 'static,
{
    let mut builder = http2::Builder::new(OnThisThread);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::H2_STREAMS)
        .max_pending_accept_reset_streams(limits::H2_EARLY_RESETS)
        .max_local_error_reset_streams(limits::H2_OWN_RESETS)
        .max_send_buf_size(limits::H2_SEND_BUFFER)
        .max_header_list_size(limits::HEAD_BYTES as u32);
    let watch = guard.watch().clone();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(guard), service_fn(serve)));
    let mut stopped = pin!(stopping.wait_for(|stopping| *stopping));
    let mut leaving = false;
    let served = poll_fn(|cx| {
        if !leaving && (watch.late() == Late::Idle || stopped.as_mut().poll(cx).is_ready()) {
            leaving = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    served.await
}

/// Until the connection ends (`None`) or falls silent.
async fn speak_http1<S, F, A>(
    guard: Guard<S>,
    mut stopping: watch::Receiver<bool>,
    serve: F,
) -> hyper::Result<Option<Guard<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response<ClientBody>, Infallible>> + 'static,
{
    let watch = guard.watch().clone();
    let mut builder = http1::Builder::new();
    builder.max_buf_size(limits::HEAD_BYTES);
    let mut connection = builder.serve_connection(TokioIo::new(guard), service_fn(serve)).with_upgrades();

    let order = stopping.clone();
    let mut stopped = pin!(stopping.wait_for(|stopping| *stopping));
    let (mut armed, mut told, mut leaving) = (false, false, false);
    let served = poll_fn(|cx| {
        // It wakes this task by itself, once it has been asked to: asking each time would be a price on each request.
        let stop = if armed { order.has_changed().unwrap_or(true) } else { stopped.as_mut().poll(cx).is_ready() };
        armed = true;
        if stop && !told {
            told = true;
            watch.leave();
        }
        // The next answer says that it is the last. Without a request there is none, and no way to say it.
        if !leaving && watch.late() == Late::Idle {
            leaving = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(served) => Poll::Ready(Some(served)),
            Poll::Pending if !leaving && watch.is_silent() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    if let Some(served) = served.await {
        return served.map(|()| None);
    }
    let Some(parts) = connection.into_parts() else { return Ok(None) };
    let guard = parts.io.into_inner();
    // Anything else is a connection that was about to end.
    Ok((parts.read_buf.is_empty() && guard.is_between_requests()).then_some(guard))
}

#[cfg(test)]
mod tests;
