//! The customers' listener, opened by us and given to the framework.
//!
//! The framework would open it itself when it starts, too late to say which port it got and to tell that it cannot, and
//! would keep it to itself. It takes a socket that it finds in its table of inherited ones, so that is where ours goes.

use crate::server::app::App;
use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::listening::Service;
use pingora::services::{ServiceReadyNotifier, ServiceWithDependents};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;

/// The framework's service on a listener of ours.
pub struct Listening {
    service: Service<App>,
    /// By the name that the service has for it.
    listener: Option<(String, TcpListener)>,
}

impl Listening {
    /// `service` on `listener`; `name` is the address that its endpoint was given.
    #[must_use]
    pub fn new(service: Service<App>, name: String, listener: TcpListener) -> Self {
        Listening { service, listener: Some((name, listener)) }
    }
}

#[async_trait]
impl ServiceWithDependents for Listening {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        if let (Some(fds), Some((name, listener))) = (&fds, self.listener.take()) {
            fds.lock().add(name, listener.into_raw_fd());
        }
        ServiceWithDependents::start_service(&mut self.service, fds, shutdown, listeners_per_fd, ready).await;
    }

    fn name(&self) -> &str {
        ServiceWithDependents::name(&self.service)
    }
}
