//! The customers' listener: accepts connections, gives each a place, and refuses those that get none.
//!
//! The framework could accept, too, but then a connection would be counted only once it has sent a head, and one that is
//! refused could not be told. A refused one is told in plain HTTP where it speaks that, within a bounded number at a time;
//! behind TLS nothing could be told without the handshake that is to be saved.

use crate::clock;
use crate::server::app::{App, Connection};
use crate::server::drain;
use crate::server::refusing::{self, Refusing, turned};
use async_trait::async_trait;
use config::{Listen, Proxy};
use connections::places::MOMENT;
use connections::socket::Socket;
use connections::{Connections, NoPlace, Place, Turned, proxy_header};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::{Stream, TcpKeepalive};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// How long accepting rests when no descriptor is left, or until connections that gave way are closed.
const REST: Duration = Duration::from_millis(10);
/// How long a connection that gave way may take to be told so.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// Errors of the operating system after which the next accept fails, too: EMFILE, ENFILE, ENOBUFS, ENOMEM.
const NO_DESCRIPTORS: [i32; 4] = [24, 23, 105, 12];
/// The device whose descriptor is the spare one.
const SPARE: &str = "/dev/null";

/// The customers' listener.
pub struct Door {
    app: Arc<App>,
    listener: Option<std::net::TcpListener>,
    tls: Option<Arc<Acceptor>>,
    refusing: Refusing,
    /// A descriptor to give up for a client that is to be told that there is none.
    spare: Option<File>,
}

impl Door {
    /// A door to `app`, for clients that speak TLS if there is an acceptor.
    #[must_use]
    pub fn new(app: App, listener: std::net::TcpListener, tls: Option<Acceptor>) -> Self {
        let refusing = Refusing::new(app.gateway().connections.refusing_max());
        Door {
            app: Arc::new(app),
            listener: Some(listener),
            tls: tls.map(Arc::new),
            refusing,
            spare: File::open(SPARE).ok(),
        }
    }

    async fn accept(&mut self, listener: &TcpListener, shutdown: &ShutdownWatch) {
        match listener.accept().await {
            Ok((stream, address)) => self.admit(stream, address, shutdown).await,
            Err(e) if e.raw_os_error().is_some_and(|code| NO_DESCRIPTORS.contains(&code)) => {
                self.without_descriptors(listener).await;
            }
            // The client left before it was accepted.
            Err(_) => {}
        }
        while self.connections().are_closing() {
            sleep(REST).await;
        }
    }

    fn connections(&self) -> &Arc<Connections> {
        &self.app.gateway().connections
    }

    /// Gives a connection its place and serves it, or refuses it.
    async fn admit(&self, stream: TcpStream, address: SocketAddr, shutdown: &ShutdownWatch) {
        let ip = address.ip().to_canonical();
        let snapshot = self.app.gateway().snapshot();
        let listen = &snapshot.config.listen;
        let proxy = listen.proxies.find(ip).cloned();
        // The kernel's backlog is no part of it: a client that was not accepted yet has sent nothing.
        let until = clock::now() + listen.limits.header;
        let place = match self.place(proxy.is_none().then_some(ip)).await {
            Ok((place, gave_way)) => {
                (0..gave_way).for_each(|_| self.connections().turned_away(Turned::GaveWay, ip));
                place
            }
            Err(none) => {
                self.connections().turned_away(turned(none), ip);
                if self.tls.is_none() {
                    self.refusing.tell_accepted(stream, none);
                }
                return;
            }
        };
        let read_bytes = listen.limits.read_buffer_bytes as usize;
        let socket = Socket::new(stream, &keepalive(listen), read_bytes, place.clone());
        let arrival = Arrival { app: Arc::clone(&self.app), place, ip, proxy, until, tls: self.tls.clone() };
        let (shutdown, refusing) = (shutdown.clone(), self.refusing.clone());
        tokio::spawn(async move {
            let place = arrival.place.clone();
            tokio::select! {
                // Where a head was waited for, the client is told first. Then what serves the socket is dropped, and it closes.
                () = async { place.given_away().await; sleep(LAST_WORDS).await } => {}
                () = arrival.serve(socket, shutdown, refusing) => {}
            }
        });
    }

    /// A place, after a moment where somebody is about to give one up.
    async fn place(&self, address: Option<IpAddr>) -> Result<(Place, u32), NoPlace> {
        let until = clock::now() + MOMENT;
        loop {
            match self.connections().enter(address) {
                Err(NoPlace::NotYet) if clock::now() <= until => sleep(REST).await,
                entered => return entered,
            }
        }
    }

    /// No descriptor is left: the spare one is used to tell the next client, and whoever asks for nothing gives way. The
    /// system says so as soon as the last one is taken: where no client comes, nobody has to give way.
    async fn without_descriptors(&mut self, listener: &TcpListener) {
        self.spare = None;
        if let Ok(Ok((stream, address))) = timeout(REST, listener.accept()).await {
            self.connections().turned_away(Turned::Descriptors, address.ip().to_canonical());
            if self.tls.is_none() {
                refusing::at_once(stream, &refusing::no_descriptor());
            }
            if self.connections().spare_one() {
                self.connections().turned_away(Turned::GaveWay, "any");
            }
        }
        self.spare = File::open(SPARE).ok();
        sleep(REST).await;
    }
}

#[async_trait]
impl Service for Door {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let Some(listener) = self.listener.take() else { return };
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(e) => return tracing::error!("the customers' listener cannot be used: {e}"),
        };
        let watch = shutdown.clone();
        loop {
            tokio::select! {
                biased;
                () = drain::shut_down(&mut shutdown) => return,
                () = self.accept(&listener, &watch) => {}
            }
        }
    }

    fn name(&self) -> &str {
        "customers"
    }
}

/// A connection that has its place, before it speaks HTTP.
struct Arrival {
    app: Arc<App>,
    place: Place,
    ip: IpAddr,
    proxy: Option<Proxy>,
    /// When its first head has to be here.
    until: Duration,
    tls: Option<Arc<Acceptor>>,
}

impl Arrival {
    async fn serve(self, mut socket: Socket, shutdown: ShutdownWatch, refusing: Refusing) {
        let mut address = self.ip;
        if self.proxy.as_ref().is_some_and(|proxy| proxy.proxy_protocol) {
            match self.told(&mut socket, &shutdown).await {
                Ok(client) => address = client.unwrap_or(address),
                Err(Some(none)) if self.tls.is_none() => {
                    return refusing.tell(socket, none, self.place);
                }
                Err(_) => return,
            }
        }
        let stream: Stream = match &self.tls {
            None => Box::new(socket),
            // Boxed, as a handshake needs much more than what is held afterwards.
            Some(tls) => match self.in_time(Box::pin(tls.tls_handshake(socket)), &shutdown).await {
                Some(Ok(stream)) => Box::new(stream),
                Some(Err(_)) | None => return self.turned_away(Turned::Handshake, address),
            },
        };
        let Arrival { app, place, proxy, until, .. } = self;
        let memory = proxy.is_none().then(Arc::default);
        let connection = Connection { place, address, from_proxy: proxy.is_some(), until, memory };
        app.serve(stream, connection, shutdown).await;
    }

    /// The client that the proxy tells, in whose share the connection then is. `Err`: there is no place in it, or nothing
    /// was told.
    async fn told(
        &self,
        socket: &mut Socket,
        shutdown: &ShutdownWatch,
    ) -> Result<Option<IpAddr>, Option<NoPlace>> {
        let client = match self.in_time(proxy_header::read(socket), shutdown).await {
            Some(Ok(Some(client))) => client.to_canonical(),
            Some(Ok(None)) => return Ok(None),
            // One that closes again without a whole header is a health check of its own kind.
            Some(Err(e)) if e.kind() != io::ErrorKind::InvalidData => return Err(None),
            Some(Err(_)) | None => {
                self.turned_away(Turned::ProxyHeader, self.ip);
                return Err(None);
            }
        };
        match self.place.belongs_to(client) {
            Ok(gave_way) => (0..gave_way).for_each(|_| self.turned_away(Turned::GaveWay, client)),
            Err(none) => {
                self.turned_away(turned(none), client);
                return Err(Some(none));
            }
        }
        Ok(Some(client))
    }

    /// What comes within the deadline, and before the process goes down.
    async fn in_time<T>(&self, what: impl Future<Output = T>, shutdown: &ShutdownWatch) -> Option<T> {
        tokio::select! {
            biased;
            what = timeout(self.until.saturating_sub(clock::now()), what) => what.ok(),
            () = drain::heads_are_over(shutdown.clone()) => None,
        }
    }

    fn turned_away(&self, why: Turned, address: IpAddr) {
        self.app.gateway().connections.turned_away(why, address);
    }
}

fn keepalive(listen: &Listen) -> TcpKeepalive {
    let limits = &listen.limits;
    TcpKeepalive {
        idle: limits.tcp_keepalive_idle,
        interval: limits.tcp_keepalive_interval,
        count: limits.tcp_keepalive_probes as usize,
        #[cfg(target_os = "linux")]
        user_timeout: limits.tcp_user_timeout,
    }
}
