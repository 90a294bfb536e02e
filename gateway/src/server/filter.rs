//! Turns connections away at the socket, before TLS and before any buffer.

use crate::state::connections::Connections;
use async_trait::async_trait;
use pingora::listeners::ConnectionFilter;
use std::net::SocketAddr;
use std::sync::Arc;

/// Lets a connection in while its bounds have room.
#[derive(Debug)]
pub struct AddressFilter {
    connections: Arc<Connections>,
}

impl AddressFilter {
    /// A filter on these bounds.
    #[must_use]
    pub fn new(connections: Arc<Connections>) -> Self {
        AddressFilter { connections }
    }
}

#[async_trait]
impl ConnectionFilter for AddressFilter {
    async fn should_accept(&self, address: Option<&SocketAddr>) -> bool {
        address.is_none_or(|address| self.connections.has_room(address.ip()))
    }
}
