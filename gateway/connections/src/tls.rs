//! The certificate that clients see: checked before anything listens, and taken up anew when its file changes.
//!
//! The framework would panic on a file it cannot use. Here certificate and key are read and fitted together
//! first, and served through a resolver, so that a renewed certificate comes into force without a connection
//! lost. One that does not fit is said, and the old one stays.

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Largest file of a certificate or key that is read: a chain has some KiB.
const PEM_BYTES_MAX: usize = 1 << 20;

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Usually the path is wrong, or the file is not PEM.
    #[error("the certificate {path} cannot be read: {cause}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Usually an encrypted key, which is not read here.
    #[error("the private key {path} cannot be read: {cause}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Usually one of the two is from an older renewal.
    #[error("{key} is not the key of the certificate {certificate}: {cause}")]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong with the two.
        cause: String,
    },
}

impl TlsError {
    /// The key of the config that names the file.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            TlsError::Certificate { .. } => "listen.tls.cert_file",
            TlsError::Key { .. } | TlsError::Mismatch { .. } => "listen.tls.key_file",
        }
    }
}

/// A certificate with its key, and the files they come from.
#[derive(Debug)]
pub struct Certificates {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: ArcSwap<CertifiedKey>,
    changed: parking_lot::Mutex<Option<SystemTime>>,
}

impl Certificates {
    /// Reads both files.
    ///
    /// # Errors
    /// When one cannot be read or they do not fit together.
    pub fn load(cert_file: &Path, key_file: &Path) -> Result<Arc<Self>, TlsError> {
        let certified = read(cert_file, key_file)?;
        Ok(Arc::new(Certificates {
            current: ArcSwap::from_pointee(certified),
            changed: parking_lot::Mutex::new(modified(cert_file, key_file)),
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
        }))
    }

    /// Takes changed files up; keeps the old certificate where they cannot be used.
    pub fn refresh(&self) {
        let now = modified(&self.cert_file, &self.key_file);
        let mut changed = self.changed.lock();
        if now.is_none() || *changed == now {
            return;
        }
        *changed = now;
        match read(&self.cert_file, &self.key_file) {
            Ok(certified) => {
                self.current.store(Arc::new(certified));
                tracing::info!(file = %self.cert_file.display(), "a new certificate is in force");
            }
            Err(e) => tracing::error!("the changed certificate is not used, the old one stays: {e}"),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn modified(cert_file: &Path, key_file: &Path) -> Option<SystemTime> {
    let of = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    of(cert_file).max(of(key_file))
}

fn read(cert_file: &Path, key_file: &Path) -> Result<CertifiedKey, TlsError> {
    let bad_cert = |cause: String| TlsError::Certificate { path: cert_file.to_owned(), cause };
    let bad_key = |cause: String| TlsError::Key { path: key_file.to_owned(), cause };
    let chain: Vec<CertificateDer<'static>> = pem(cert_file).map_err(bad_cert).and_then(|pem| {
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|e| bad_cert(e.to_string()))
    })?;
    if chain.is_empty() {
        return Err(bad_cert("it holds no certificate".to_owned()));
    }
    let key = pem(key_file)
        .map_err(bad_key)
        .and_then(|pem| PrivateKeyDer::from_pem_slice(&pem).map_err(|e| bad_key(e.to_string())))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|e| TlsError::Mismatch {
        certificate: cert_file.to_owned(),
        key: key_file.to_owned(),
        cause: e.to_string(),
    })
}

/// A file's content, of at most [`PEM_BYTES_MAX`] bytes. Pipes and devices are refused: they can be waited for in vain.
fn pem(path: &Path) -> Result<Vec<u8>, String> {
    config::read_file(path, PEM_BYTES_MAX).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_explained() {
        let missing = Certificates::load(Path::new("/nowhere.pem"), Path::new("/nowhere.key")).unwrap_err();
        let told = "the certificate /nowhere.pem cannot be read";
        assert!(missing.to_string().starts_with(told), "{missing}");
        let file = std::env::temp_dir().join(format!("tidegate-tls-{}.pem", std::process::id()));
        std::fs::write(&file, "no pem").unwrap();
        let empty = Certificates::load(&file, &file).unwrap_err();
        assert!(empty.to_string().contains("holds no certificate"), "{empty}");
    }
}
