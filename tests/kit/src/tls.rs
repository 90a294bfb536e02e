//! TLS in tests: identities, a client that speaks HTTP/2, and TLS before an engine that has none.
//!
//! The certificates beside this file are for these tests alone: their authorities' keys were thrown away, and they
//! are valid for a hundred years.

use super::client::{Answer, Begun};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Who a server is, and who says so.
pub struct Identity {
    /// Its certificate, PEM.
    pub certificate: &'static str,
    /// The key of the certificate, PEM.
    pub key: &'static str,
    /// The certificate of the authority that signed it, PEM.
    pub authority: &'static str,
    /// The DNS name in it.
    pub name: &'static str,
}

/// Both are `gateway.test`, by different authorities.
pub const FIRST: Identity = Identity {
    certificate: include_str!("tls/first.pem"),
    key: include_str!("tls/first.key"),
    authority: include_str!("tls/first-ca.pem"),
    name: "gateway.test",
};
/// See [`FIRST`].
pub const SECOND: Identity = Identity {
    certificate: include_str!("tls/second.pem"),
    key: include_str!("tls/second.key"),
    authority: include_str!("tls/second-ca.pem"),
    name: "gateway.test",
};
/// An engine, which has a name and no address in its certificate.
pub const ENGINE: Identity = Identity {
    certificate: include_str!("tls/engine.pem"),
    key: include_str!("tls/engine.key"),
    authority: include_str!("tls/engine-ca.pem"),
    name: "engine.internal",
};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Connects and trusts the authority of `identity` alone. `Err`: the server is somebody else.
pub async fn connect(
    address: SocketAddr,
    identity: &Identity,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    over(stream, identity, alpn).await
}

/// The same over a connection that there is.
pub async fn over(
    stream: TcpStream,
    identity: &Identity,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(identity.authority.as_bytes()).unwrap()).unwrap();
    let config =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(identity.name).unwrap(), stream).await
}

/// A connection that speaks HTTP/2.
pub struct H2 {
    sender: SendRequest<Full<Bytes>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for H2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl H2 {
    /// Connects.
    pub async fn open(address: SocketAddr, identity: &Identity) -> H2 {
        H2::open_behind(address, identity, b"").await
    }

    /// Connects, and sends `first` before TLS begins, as a proxy does.
    pub async fn open_behind(address: SocketAddr, identity: &Identity, first: &[u8]) -> H2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(first).await.unwrap();
        H2::on(over(stream, identity, &[b"h2"]).await.unwrap()).await.unwrap()
    }

    /// Begins HTTP/2 on a connection that has agreed on it.
    ///
    /// # Errors
    /// When it is closed meanwhile.
    pub async fn on(stream: TlsStream<TcpStream>) -> hyper::Result<H2> {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        Ok(H2 { sender, task: tokio::spawn(async move { drop(connection.await) }) })
    }

    /// Sends a request and waits for the head of its answer. `Err`: it was reset before.
    pub async fn begin(&mut self, mut request: Request<Full<Bytes>>) -> hyper::Result<Begun> {
        let path = request.uri().path().to_owned();
        *request.uri_mut() = format!("https://gateway.test{path}").parse().unwrap();
        request.headers_mut().remove("host");
        self.sender.ready().await?;
        let answer = tokio::time::timeout(Duration::from_secs(60), self.sender.send_request(request));
        Ok(Begun::of(answer.await.expect("no head of an answer")?))
    }

    /// Sends a request and reads its whole answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.begin(request).await.expect("no answer").whole().await
    }
}

/// The settings that a server sends first, by their numbers.
pub async fn settings(address: SocketAddr, identity: &Identity) -> BTreeMap<u16, u32> {
    let mut stream = connect(address, identity, &[b"h2"]).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    let mut payload = vec![0; usize::from(head[2]) + 256 * usize::from(head[1])];
    stream.read_exact(&mut payload).await.unwrap();
    let setting = |six: &[u8]| {
        (u16::from_be_bytes([six[0], six[1]]), u32::from_be_bytes([six[2], six[3], six[4], six[5]]))
    };
    payload.chunks_exact(6).map(setting).collect()
}

/// Speaks TLS as `identity` and passes everything on to `engine`. Ends with the runtime of its test.
pub async fn before(engine: SocketAddr, identity: &Identity) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let Ok(mut server) = TcpStream::connect(engine).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}
