//! A connection that speaks HTTP/2: its streams are requests, many at once.
//!
//! Preface and first head are within the connection's one deadline; after that it may be idle as long as any other. Streams
//! are bounded on the connection, which the client is told in the settings, and on all together: one too many is answered
//! 503, and the connection goes on.

use crate::clock;
use crate::server::app::{App, Connection};
use crate::server::drain;
use crate::server::refusing::{no_stream, refuse};
use connections::streams::{Running, Streams};
use connections::{Asking, Turned};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use tokio::time::{sleep, timeout};

/// Malformed streams after which a connection is closed, as the framework has it for its own.
const MALFORMED_MAX: u32 = 32;

/// Bytes of all bodies of a connection that a client may have sent and nobody has read: what is read is counted in
/// `listen.limits.inflight_bytes`. A stream may have all of it, as one that uploads alone wants over a long way.
const UNREAD_MAX: u32 = 1 << 20;
/// Bytes of the answer of each stream that wait for the client to read. Whoever writes more waits for it.
const UNSENT_MAX: usize = 64 << 10;

/// Serves the connection to its end.
pub async fn serve(app: Arc<App>, stream: Stream, connection: Connection, mut shutdown: ShutdownWatch) {
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let shake = handshake(stream, Some(options(&app)));
    let begun = tokio::select! {
        biased;
        begun = timeout(connection.until.saturating_sub(clock::now()), shake) => begun.ok(),
        () = drain::heads_are_over(shutdown.clone()) => None,
    };
    let Some(Ok(mut http2)) = begun else {
        return app.gateway().connections.turned_away(Turned::Handshake, connection.address);
    };
    let streams = Arc::new(Streams::default());
    let watch = shutdown.clone();
    let (mut until, mut going_down, mut malformed) = (Some(connection.until), false, 0);
    loop {
        let idle_for = match until {
            Some(until) => until.saturating_sub(clock::now()),
            None => connection.keepalive(&app.gateway().snapshot().config.listen),
        };
        let accepted = tokio::select! {
            biased;
            () = drain::shut_down(&mut shutdown), if !going_down => {
                // Streams that are on their way are still served, and the connection closes with the last.
                http2.graceful_shutdown();
                going_down = true;
                continue;
            }
            accepted = HttpSession::from_h2_conn(&mut http2, Arc::clone(&digest)) => accepted,
            () = async { streams.idle().await; sleep(idle_for).await } => return,
        };
        match accepted {
            Ok(Some(H2Accept::Session(stream))) => {
                until = None;
                let Some(asking) = connection.place.request() else { return };
                let running = Running::begin(&streams);
                let (app, connection, watch) = (Arc::clone(&app), connection.clone(), watch.clone());
                tokio::spawn(async move {
                    let _running = running;
                    request(&app, stream, &connection, asking, &watch).await;
                });
            }
            Ok(Some(H2Accept::Rejected)) if malformed < MALFORMED_MAX => malformed += 1,
            Ok(Some(H2Accept::Rejected) | None) | Err(_) => return,
        }
    }
}

fn options(app: &App) -> H2Options {
    let mut options = default_h2_options();
    options.max_concurrent_streams(app.gateway().snapshot().config.listen.limits.h2_streams_per_connection);
    options.initial_connection_window_size(UNREAD_MAX).initial_window_size(UNREAD_MAX);
    options.max_send_buffer_size(UNSENT_MAX);
    options
}

/// One stream.
async fn request(
    app: &App,
    stream: HttpSession,
    connection: &Connection,
    asking: Asking,
    shutdown: &ShutdownWatch,
) {
    let mut session = ServerSession::new_http2(stream);
    session.set_write_timeout(Some(app.gateway().snapshot().config.listen.limits.write));
    if !matches!(session.read_request().await, Ok(true)) {
        return;
    }
    let Some(_place) = app.gateway().connections.stream() else {
        app.gateway().connections.turned_away(Turned::Streams, connection.address);
        refuse(&mut session, &no_stream()).await;
        return;
    };
    let draining = app.gateway().is_draining() || *shutdown.borrow();
    session.set_keepalive((!draining).then_some(1));
    if app.answer(&mut session, connection, asking).await {
        let _ = session.finish().await;
    }
}
