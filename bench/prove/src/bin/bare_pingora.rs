//! A bare Pingora proxy: a fixed upstream and nothing else. What the gateway's own cost is measured against.
//!
//! ```text
//! bare-pingora LISTEN UPSTREAM [refuse=STATUS]
//! ```
//!
//! With `refuse=429` it reads each request's body and answers with that status, which is the least that a
//! refusal over a kept connection can cost.

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::prelude::{HttpPeer, ProxyHttp, Result, Server, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;
use std::net::SocketAddr;

struct Bare {
    upstream: SocketAddr,
    refuse: Option<u16>,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        let Some(status) = self.refuse else { return Ok(false) };
        session.downstream_session.drain_request_body().await?;
        let mut head = ResponseHeader::build(status, Some(3))?;
        head.insert_header("retry-after", "1")?;
        head.insert_header("content-length", "0")?;
        session.write_response_header(Box::new(head), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

#[expect(clippy::print_stderr, reason = "this is the program's usage")]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next();
    let upstream = arguments.next().and_then(|text| text.parse().ok());
    let refuse = arguments.next().and_then(|text| text.strip_prefix("refuse=")?.parse().ok());
    let (Some(listen), Some(upstream)) = (listen, upstream) else {
        eprintln!("usage: bare-pingora IP:PORT UPSTREAM_IP:PORT [refuse=STATUS]");
        std::process::exit(2);
    };
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 8192, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream, refuse });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
