//! The admin listener: hyper on one thread of its own, so that nothing asked here can slow a request.

use crate::admin::{answer, table};
use crate::state::gateway::Gateway;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Connections at once. Operators and scrapers are few.
const CONNECTIONS_MAX: usize = 64;
/// Changes at once.
const CHANGES_MAX: usize = 2;
/// Longest time for a request's head.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Serves `listener` on a new thread.
///
/// # Errors
/// When the thread or its runtime is not to be had.
pub fn start(listener: TcpListener, gateway: Arc<Gateway>, metrics: PrometheusHandle) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(CHANGES_MAX)
        .enable_all()
        .build()?;
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(accept(listener, gateway, metrics));
    })?;
    Ok(())
}

/// The listener is a new process's. What was asked here is answered: the runtime has to go on.
async fn never(listener: tokio::net::TcpListener) {
    drop(listener);
    std::future::pending::<()>().await;
}

async fn accept(listener: TcpListener, gateway: Arc<Gateway>, metrics: PrometheusHandle) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Who asks from now on asks the new process.
            () = gateway.handed_over() => return never(listener).await,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (gateway, metrics) = (Arc::clone(&gateway), metrics.clone());
        let closing = Arc::clone(&gateway);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (gateway, metrics) = (Arc::clone(&gateway), metrics.clone());
                async move {
                    let (head, body) = request.into_parts();
                    Ok::<_, Infallible>(match Limited::new(body, table::BODY_MAX).collect().await {
                        Ok(body) if head.method == Method::GET || head.method == Method::HEAD => {
                            table::answer(&gateway, &metrics, &head, &body.to_bytes(), peer)
                        }
                        // A change may wait for the disk or for DNS: not on the thread that answers the probes.
                        Ok(body) => {
                            let body = body.to_bytes();
                            let work = move || table::answer(&gateway, &metrics, &head, &body, peer);
                            tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
                                let message = "The change failed inside; the log says more.";
                                answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "failed", message).answer()
                            })
                        }
                        Err(_) => {
                            let message = format!("A body has at most {} bytes here.", table::BODY_MAX);
                            answer::problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).answer()
                        }
                    })
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = closing.handed_over() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }
}
