//! A connection that speaks HTTP: one session in, one answer out, the connection kept or not.

use crate::accounts::memory::HolderMemory;
use crate::clock;
use crate::proxy::pipeline::{self, Caller};
use crate::server::refusing::{no_place, refuse};
use crate::server::{drain, http2};
use crate::state::gateway::Gateway;
use config::Listen;
use connections::idle::{Next, next_request};
use connections::{Asking, NoPlace, Place, Turned, Visit, forwarded, linger};
use pingora::ErrorType;
use pingora::apps::HttpPersistentSettings;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use protocol::explain;
use protocol::refusal::{Reason, Refusal};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The application.
#[derive(Debug)]
pub struct App {
    gateway: Arc<Gateway>,
    /// Requests on one connection.
    requests_max: u32,
}

/// What is known of a connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its place.
    pub place: Place,
    /// Its client, as far as the connection tells.
    pub address: IpAddr,
    /// Whether it comes from a listed proxy.
    pub from_proxy: bool,
    /// When its first head has to be here.
    pub until: Duration,
    /// What its requests hold. A listed proxy's has those of many clients, whose accounts are bounded alone.
    pub memory: Option<Arc<HolderMemory>>,
}

impl Connection {
    /// How long it may be idle.
    pub fn keepalive(&self, listen: &Listen) -> Duration {
        if self.from_proxy { listen.limits.keepalive_proxies } else { listen.limits.keepalive }
    }
}

impl App {
    /// The application of `gateway`.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>) -> Self {
        let requests_max = gateway.snapshot().config.listen.limits.keepalive_requests;
        App { gateway, requests_max }
    }

    /// The process that it is part of.
    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Serves a connection to its end.
    pub async fn serve(self: Arc<Self>, stream: Stream, connection: Connection, shutdown: ShutdownWatch) {
        // HTTP/2 without TLS stays off: few clients want it, and whoever is not asked cannot be slow about it.
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            return http2::serve(self, stream, connection, shutdown).await;
        }
        let mut session = ServerSession::new_http1(stream);
        // The wait between requests is ours, see `server::idle`; here it only must not be off.
        session.set_keepalive(Some(self.gateway.snapshot().config.listen.limits.keepalive.as_secs().max(1)));
        // The framework counts how often a connection is used again, we count its requests.
        session.set_keepalive_reuses_remaining(Some(self.requests_max.saturating_sub(1)));
        let mut until = connection.until;
        while let Some(Next { stream, settings }) = self.request(session, &connection, until, &shutdown).await
        {
            session = ServerSession::new_http1(stream);
            settings.apply_to_session(&mut session);
            until = clock::now() + self.gateway.snapshot().config.listen.limits.header;
        }
    }

    /// One request over HTTP/1.1, and the wait for the next.
    async fn request(
        &self,
        mut session: ServerSession,
        connection: &Connection,
        until: Duration,
        shutdown: &ShutdownWatch,
    ) -> Option<Next> {
        let snapshot = self.gateway.snapshot();
        let listen = &snapshot.config.listen;
        session.set_write_timeout(Some(listen.limits.write));
        match self.read_head(&mut session, connection, until, shutdown).await {
            Head::Whole => {}
            Head::Refused(within) => {
                linger_after(session, &connection.place, within).await;
                return None;
            }
            Head::None => return None,
        }
        let Some(asking) = connection.place.request() else {
            refuse(&mut session, &no_place(NoPlace::Total)).await;
            linger_after(session, &connection.place, linger::BRIEF).await;
            return None;
        };
        let draining = self.gateway.is_draining() || *shutdown.borrow();
        let keepalive = connection.keepalive(listen);
        session.set_keepalive((!draining).then_some(keepalive.as_secs().max(1)));
        if !self.answer(&mut session, connection, asking).await {
            if !session.is_body_done() {
                linger_after(session, &connection.place, linger::LONG).await;
            }
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let is_over = drain::idle_is_over(&self.gateway, shutdown.clone());
        next_request(session, settings, &connection.place, keepalive, is_over).await
    }

    /// Reads a head within its deadline. When the process begins to go down, a connection that was taken still has a moment
    /// for it; one that has to give way for another has none, but is told.
    async fn read_head(
        &self,
        session: &mut ServerSession,
        connection: &Connection,
        until: Duration,
        shutdown: &ShutdownWatch,
    ) -> Head {
        let (refusal, within) = tokio::select! {
            biased;
            read = timeout(until.saturating_sub(clock::now()), session.read_request()) => match read {
                Ok(Ok(true)) => return Head::Whole,
                Ok(Err(e)) if *e.etype() == ErrorType::InvalidHTTPHeader => {
                    (Refusal::bad("The request's head is not well-formed HTTP."), linger::SHORT)
                }
                Ok(_) => return Head::None,
                Err(_) => {
                    (Refusal::new(Reason::RequestTimeout, "The request's head came too slowly."), linger::SHORT)
                }
            },
            () = connection.place.given_away() => (no_place(NoPlace::Total), linger::BRIEF),
            () = drain::heads_are_over(shutdown.clone()) => {
                let message =
                    "Service Overloaded: the gateway is going down, and the request's head was not here in time.";
                (Refusal::new(Reason::Draining, message).retry(Some(explain::ELSEWHERE_AFTER)), linger::SHORT)
            }
        };
        if matches!(refusal.reason, Reason::BadRequest | Reason::RequestTimeout) {
            self.gateway.connections.turned_away(Turned::Head, connection.address);
        }
        refuse(session, &refusal).await;
        Head::Refused(within)
    }

    /// Answers a request whose head is here. `true`: the connection may serve another.
    pub(super) async fn answer(
        &self,
        session: &mut ServerSession,
        connection: &Connection,
        asking: Asking,
    ) -> bool {
        match self.visitor(session, connection) {
            Ok((address, _visit)) => {
                let caller = Caller { address, asking, connection: connection.memory.clone() };
                pipeline::serve(&self.gateway, session, caller).await
            }
            Err(refusal) => {
                refuse(session, &refusal).await;
                false
            }
        }
    }

    /// Whose request it is, and its place in that address's share where it comes over a proxy's connection.
    fn visitor(
        &self,
        session: &ServerSession,
        connection: &Connection,
    ) -> Result<(IpAddr, Option<Visit>), Refusal> {
        let snapshot = self.gateway.snapshot();
        let proxies = &snapshot.config.listen.proxies;
        let address = forwarded::client(&session.req_header().headers, connection.address, proxies);
        if address == connection.address {
            return Ok((address, None));
        }
        let visit = self.gateway.connections.visit(address).map_err(|none| {
            self.gateway.connections.turned_away(Turned::Address, address);
            no_place(none)
        })?;
        Ok((address, Some(visit)))
    }
}

/// What came of the wait for a head.
enum Head {
    /// It is here.
    Whole,
    /// None that could be used, and the client was told; its connection may linger that long.
    Refused(linger::Lingering),
    /// The client said nothing, or left.
    None,
}

/// Closes a connection whose client was answered and may still be sending. Where nothing was answered, or too many
/// linger, it is closed at once; one that gave way is closed in a moment in any case.
async fn linger_after(session: ServerSession, place: &Place, within: linger::Lingering) {
    if session.response_written().is_none() || !(place.lingers() || within == linger::BRIEF) {
        return;
    }
    if let ServerSession::H1(session) = session {
        linger::close(session.into_inner(), within).await;
    }
}
