//! Where a gateway that runs already is: its address, its path, and how it proves who it is.
//!
//! As for engines there is no switch that turns verification off: a private authority is named by its certificate.

use super::DrillError;
use http::Uri;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use load::tls::Tls;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The address of an admin interface that was given as `argument`.
///
/// # Errors
/// It is none.
pub(super) fn admin_of(argument: &str, given: &str) -> Result<SocketAddr, DrillError> {
    let address = given.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    address.ok_or_else(|| DrillError::Usage(format!("{argument} {given}: this is no ADDRESS:PORT")))
}

/// The token of an admin interface, where a file with it was given.
///
/// # Errors
/// The file cannot be read.
pub(super) fn token_of(file: Option<&PathBuf>) -> Result<Option<String>, DrillError> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|error| {
            DrillError::Usage(format!("--token-file {} cannot be read: {error}", path.display()))
        })
    };
    file.map(read).transpose()
}

/// A place on the network.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// As its URL has it, for `Host`.
    pub(super) host: String,
    /// What goes before the paths of the API, without a slash at its end.
    pub(super) path: String,
    pub(super) tls: Option<Tls>,
}

impl Place {
    /// Reads a URL. `ca`: the authorities for https, in place of the system's.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(super) fn of(url: &str, ca: Option<&Path>) -> Result<Place, String> {
        let uri: Uri = url.parse().map_err(|e| format!("this is no URL: {e}"))?;
        let (secure, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err("it must begin with http:// or https://".to_owned()),
        };
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
            return Err("it names no host".to_owned());
        };
        if ca.is_some() && !secure {
            return Err("--ca has no effect without https://".to_owned());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(port);
        let address = (bare, port).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        let address = address.ok_or_else(|| format!("`{host}` has no address"))?;
        let tls = if secure { Some(trust(bare, ca)?) } else { None };
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Place { address, host: authority.as_str().to_owned(), path, tls })
    }

    /// A connection of its own.
    ///
    /// # Errors
    /// Nobody listens there, or not whom the URL names.
    pub(super) async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, String> {
        let stream = tokio::net::TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
        match &self.tls {
            None => {
                let (sender, connection) =
                    handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(sender)
            }
            Some(tls) => {
                let stream =
                    tls.connect(stream).await.map_err(|e| format!("TLS: {e}; --ca names authorities"))?;
                let (sender, connection) =
                    handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(sender)
            }
        }
    }
}

fn trust(host: &str, ca: Option<&Path>) -> Result<Tls, String> {
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| format!("no certificate can name `{host}`"))?;
    let certificates: Vec<CertificateDer<'static>> = match ca {
        None => rustls_native_certs::load_native_certs()
            .map_err(|e| format!("the system's authorities cannot be read: {e}; name some with --ca"))?,
        Some(file) => CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|e| format!("--ca {}: {e}", file.display()))?,
    };
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        return Err("no authority is known that could vouch for it; name some with --ca".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Tls::new(config, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address_a_host_and_a_path() {
        let place = Place::of("http://127.0.0.1:8080/inference/", None).unwrap();
        assert_eq!(place.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((place.host.as_str(), place.path.as_str()), ("127.0.0.1:8080", "/inference"));
        let place = Place::of("http://[::1]", None).unwrap();
        assert_eq!((place.address, place.path.as_str()), ("[::1]:80".parse().unwrap(), ""));
        assert!(place.tls.is_none());
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        let fault = |url: &str, ca: Option<&str>| Place::of(url, ca.map(Path::new)).unwrap_err();
        assert!(fault("127.0.0.1:8080", None).contains("http://"));
        assert!(fault("ftp://127.0.0.1", None).contains("http:// or https://"));
        assert!(fault("http://127.0.0.1", Some("ca.pem")).contains("no effect without https"));
        assert!(fault("https://127.0.0.1", Some("/none/ca.pem")).contains("/none/ca.pem"));
    }
}
