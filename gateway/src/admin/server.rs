//! The admin listener: hyper on one thread of its own, so that nothing asked here can slow a request.
//!
//! Probes are answered whatever else is asked: that thread reads heads, judges them and answers probes; everything that
//! takes longer runs on a small pool beside it, for as many questions at once as there are turns. What a peer owes has a
//! deadline: its head, its body, the reading of its answer. At the bound of connections the one gives way that waits
//! longest (`connections::operators`).

use crate::admin::answer::{self, Answer};
use crate::admin::console;
use crate::admin::patient::Patient;
use crate::admin::table::{self, Asked};
use crate::clock;
use crate::state::gateway::Gateway;
use crate::telemetry::seldom::Seldom;
use bytes::Bytes;
use connections::operators::{Place, Places};
use http::{HeaderValue, Method, Request, StatusCode, header, request};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Changes at once: one may wait for the disk or for DNS.
const CHANGES_MAX: usize = 2;
/// Questions that are worked on at once, changes left out: all metrics of a large config take a while.
const READS_MAX: usize = 2;
/// Longest time for a request's head.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Longest time for its body.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Largest head, and how much of an answer is put together for one write, bytes.
const HEAD_MAX: usize = 32 << 10;
/// Connections that may wait to be taken: what comes in one moment of a crowd, before the thread looks again.
const BACKLOG: i32 = 1024;
/// Connections that are taken in a row while others give way for them. Few enough that the newest, which may be a probe's,
/// is never among those that wait longest, and many enough that a crowd in front of it is soon gone.
const TAKEN_IN_A_ROW: usize = 32;
/// How often it is looked for room while all places are taken by connections that came a moment ago.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(5);
/// The wait after a connection could not be taken.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What the connections share.
struct Desk {
    gateway: Arc<Gateway>,
    metrics: PrometheusHandle,
    places: Arc<Places>,
    changes: Semaphore,
    reads: Semaphore,
}

/// Serves `listener` on a new thread.
///
/// # Errors
/// When the thread or its runtime is not to be had.
pub fn start(listener: TcpListener, gateway: Arc<Gateway>, metrics: PrometheusHandle) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // The standard library's is too short for a crowd, and what it drops comes again after a second.
    rustix::net::listen(&listener, BACKLOG)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(CHANGES_MAX + READS_MAX)
        .enable_all()
        .build()?;
    let desk = Desk {
        gateway,
        metrics,
        places: Places::new(),
        changes: Semaphore::new(CHANGES_MAX),
        reads: Semaphore::new(READS_MAX),
    };
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(accept(listener, Arc::new(desk)));
    })?;
    Ok(())
}

/// The listener is a new process's. What was asked here is answered: the runtime has to go on.
async fn never(listener: tokio::net::TcpListener) {
    drop(listener);
    std::future::pending::<()>().await;
}

async fn accept(listener: TcpListener, desk: Arc<Desk>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut in_a_row = 0;
    loop {
        // Whoever waits here is in the listener's queue.
        while !desk.places.has_room(clock::now()) {
            tokio::time::sleep(LOOK_FOR_ROOM).await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Who asks from now on asks the new process.
            () = desk.gateway.handed_over() => return never(listener).await,
        };
        let Ok((stream, peer)) = accepted else {
            // Usually descriptors ran out.
            gave_way(desk.places.make_room(clock::now()));
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        let (place, others) = desk.places.take(clock::now());
        tokio::spawn(connection(Arc::clone(&desk), stream, peer, place));
        gave_way(others);
        in_a_row += usize::from(others);
        if in_a_row >= TAKEN_IN_A_ROW {
            in_a_row = 0;
            // Those that give way close, and what the others have sent is seen, before more are taken.
            tokio::task::yield_now().await;
        }
    }
}

async fn connection(desk: Arc<Desk>, stream: TcpStream, peer: SocketAddr, place: Place) {
    let line = Arc::clone(&place.line);
    // An answer is written at once.
    let _ = stream.set_nodelay(true);
    let stream = Patient::new(stream, Arc::clone(&line), || refused("unread"));
    let (of_service, of_line) = (Arc::clone(&desk), Arc::clone(&line));
    let service = service_fn(move |request: Request<Incoming>| {
        let (desk, line) = (Arc::clone(&of_service), Arc::clone(&of_line));
        async move {
            let (head, body) = request.into_parts();
            if let Some(file) = console::file(&head) {
                return Ok::<_, Infallible>(file);
            }
            let asked = match table::judge(&desk.gateway, &head, peer) {
                Ok(asked) if asked.is_probe() => {
                    return Ok(asked.answer(&desk.gateway, &desk.metrics, &head, &Bytes::new(), peer));
                }
                Ok(asked) => asked,
                Err(refused) => return Ok(*refused),
            };
            let Some(turn) = desk.places.turn(asked.caller.is_known).await else { return Ok(busy()) };
            line.begins();
            let answer = desk.answer(asked, head, body, peer).await;
            line.writes(turn);
            Ok(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = line.gives_way() => {}
        () = desk.gateway.handed_over() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop(place);
}

impl Desk {
    /// Reads the body and answers, on another thread than the one that answers the probes.
    async fn answer(
        self: &Arc<Self>,
        asked: Asked,
        head: request::Parts,
        body: Incoming,
        peer: SocketAddr,
    ) -> Answer {
        let is_read = head.method == Method::GET || head.method == Method::HEAD;
        // The body of a GET means nothing.
        let body = if is_read { Ok(Bytes::new()) } else { read(body).await };
        let body = match body {
            Ok(body) => body,
            Err(answer) => return *answer,
        };
        let pool = if is_read { &self.reads } else { &self.changes };
        let _place = pool.acquire().await;
        let desk = Arc::clone(self);
        let work = move || asked.answer(&desk.gateway, &desk.metrics, &head, &body, peer);
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
            let message = "The change failed inside; the log says more.";
            answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "failed", message).answer()
        })
    }
}

/// Reads a body within its time and size.
async fn read(body: Incoming) -> Result<Bytes, Box<Answer>> {
    let collected = Limited::new(body, table::BODY_MAX).collect();
    let answer = match tokio::time::timeout(BODY_TIME, collected).await {
        Ok(Ok(body)) => return Ok(body.to_bytes()),
        Ok(Err(_)) => {
            refused("body_size");
            table::too_large()
        }
        Err(_) => {
            refused("body_time");
            let message = "The body came too slowly; send the request again.";
            let late = answer::problem(StatusCode::REQUEST_TIMEOUT, "too_slow", message);
            closing(late.answer())
        }
    };
    Err(Box::new(answer))
}

/// Too much is asked at once.
fn busy() -> Answer {
    refused("busy");
    let message = "Too many requests are worked on here; send it again in a second.";
    let mut answer = closing(answer::problem(StatusCode::SERVICE_UNAVAILABLE, "busy", message).answer());
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// The connection ends with this answer.
fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn gave_way(yes: bool) {
    if yes {
        refused("gave_way");
    }
}

/// Why a connection or a request is given up.
const REFUSED: [&str; 5] = ["unread", "body_size", "body_time", "busy", "gave_way"];

/// Makes the series known from the start.
pub(super) fn known() {
    for reason in REFUSED {
        metrics::counter!("tidegate_admin_refused_total", "reason" => reason).increment(0);
    }
}

/// Counts what was given up here, and tells of it now and then.
fn refused(reason: &'static str) {
    static TOLD: Seldom = Seldom::new();
    metrics::counter!("tidegate_admin_refused_total", "reason" => reason).increment(1);
    if let Some(count) = TOLD.due() {
        tracing::warn!(
            reason,
            count,
            "the admin listener gave up connections or requests; who asks there so much?"
        );
    }
}
