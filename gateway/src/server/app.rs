//! The HTTP application on the framework's listener: one session in, one answer out, the connection kept or not.

use crate::proxy::pipeline;
use crate::server::drain;
use crate::server::idle::next_request;
use crate::state::connections::ConnectionPlace;
use crate::state::gateway::Gateway;
use async_trait::async_trait;
use pingora::ErrorType;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use protocol::api::Family;
use protocol::explain;
use protocol::refusal::{Reason, Refusal};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// An HTTP/2 connection without a stream is closed after this.
const H2_IDLE: Duration = Duration::from_secs(120);

/// The application.
#[derive(Debug)]
pub struct App {
    gateway: Arc<Gateway>,
    options: HttpServerOptions,
}

impl App {
    /// The application of `gateway`.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>) -> Self {
        let mut options = HttpServerOptions::default();
        // The framework counts how often a connection is used again, we count its requests.
        let requests = gateway.snapshot().config.listen.limits.keepalive_requests;
        options.keepalive_request_limit = Some(requests.saturating_sub(1));
        options.h2_idle_timeout = Some(H2_IDLE);
        // HTTP/2 without TLS stays off: its preface is read without a timeout.
        options.h2c = false;
        App { gateway, options }
    }

    /// The connection's place: carried from its last request, or taken now. `None`: there is no room. A peer
    /// without an address, such as one on a Unix socket, needs no place.
    #[expect(clippy::option_option, reason = "no room, no place needed, and a place are three things")]
    fn place(&self, session: &mut ServerSession) -> Option<Option<ConnectionPlace>> {
        let carried = session.take_connection_user_context().and_then(|context| context.downcast().ok());
        if let Some(place) = carried {
            return Some(Some(*place));
        }
        match session.client_addr().and_then(|address| address.as_inet()) {
            Some(address) => self.gateway.connections.enter(address.ip()).map(Some),
            None => Some(None),
        }
    }
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let place = self.place(&mut session)?;
        let limits = self.gateway.snapshot().config.listen.limits.clone();
        session.set_write_timeout(Some(limits.write));
        if !read_head(&mut session, limits.header, shutdown).await {
            return None;
        }
        // The wait between requests is ours, see `edge::idle`; here it only must not be off.
        let draining = self.gateway.is_draining() || *shutdown.borrow();
        session.set_keepalive((!draining).then_some(limits.keepalive.as_secs().max(1)));
        if !pipeline::serve(&self.gateway, &mut session).await {
            return None;
        }
        next_request(session, place, limits.keepalive, shutdown, &self.gateway).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// Reads a head within its deadline. `false`: there is none, and the client was told where that makes sense. When the
/// process begins to go down, a connection that was taken still has a moment for its head.
async fn read_head(session: &mut ServerSession, deadline: Duration, shutdown: &ShutdownWatch) -> bool {
    let read = tokio::select! {
        biased;
        read = timeout(deadline, session.read_request()) => Some(read),
        () = drain::heads_are_over(shutdown.clone()) => None,
    };
    let refusal = match read.transpose() {
        Ok(Some(Ok(true))) => return true,
        Ok(Some(Ok(false))) => return false,
        Ok(Some(Err(e))) if *e.etype() == ErrorType::InvalidHTTPHeader => {
            Refusal::bad("The request's head is not well-formed HTTP.")
        }
        Ok(Some(Err(_))) => return false,
        Ok(None) => Refusal::new(
            Reason::Draining,
            "Service Overloaded: the gateway is going down, and the request's head was not here in time.",
        )
        .retry(Some(explain::ELSEWHERE_AFTER)),
        Err(_) => Refusal::new(Reason::RequestTimeout, "The request's head came too slowly."),
    };
    refuse_without_head(session, &refusal).await;
    false
}

/// Tells of a refusal when there is no request to speak of.
async fn refuse_without_head(session: &mut ServerSession, refusal: &Refusal) {
    session.set_keepalive(None);
    let envelope = crate::downstream::respond::Envelope::new(Family::OpenAi);
    if let Ok((head, body)) = crate::downstream::respond::refusal(&envelope, refusal) {
        let _ = session.write_error_response(head, body).await;
    }
}
