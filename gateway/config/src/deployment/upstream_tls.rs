//! `deployments[].tls`: how https replicas prove who they are.
//!
//! There is no switch that turns verification off: a server that anybody can impersonate gets the prompts and the
//! key of all customers. A private authority is named by its certificate instead.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::deployment::replica::ReplicaUrl;
use crate::resolve::Resolver;
use crate::yaml::faults::At;

/// How https replicas prove who they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamTls {
    /// Where the authorities are read from; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// The authorities, DER, once they were read.
    pub authorities: Option<Arc<Vec<Vec<u8>>>>,
    /// The name that certificates must have, where it is not the replica's own.
    pub server_name: Option<String>,
}

/// How https replicas prove who they are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpstreamTlsFile {
    /// PEM file with the certificates of the authorities that are trusted, in place of the system's. Default: the system's.
    #[schemars(length(min = 1, max = 4096))]
    ca_file: Option<String>,
    /// The name that the servers' certificates must have, also sent as SNI. Default: the host of the replica's URL; to be set where replicas are addresses and their certificate has one name.
    #[schemars(length(min = 1, max = 253))]
    server_name: Option<String>,
}

impl UpstreamTlsFile {
    pub(crate) fn resolve(
        self,
        replicas: &[ReplicaUrl],
        at: &At<'_>,
        resolver: &mut Resolver<'_>,
    ) -> UpstreamTls {
        let given = self.ca_file.is_some() || self.server_name.is_some();
        if given && !replicas.iter().any(|replica| replica.tls) && !replicas.is_empty() {
            resolver.fault(at, "has no effect: no replica's URL begins with https://");
        }
        if let Some(name) = &self.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            resolver.fault(&at.key("server_name"), "must be a DNS name or an IP address");
        }
        let ca_file = self.ca_file.map(|path| resolver.path(&path));
        let ca_at = at.key("ca_file");
        let authorities = ca_file.as_ref().and_then(|path| {
            let bytes = resolver.bytes(&ca_at, path)?;
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
            let usable =
                |der: &CertificateDer<'_>| RootCertStore::empty().add(der.clone().into_owned()).is_ok();
            match certificates {
                Ok(found) if !found.is_empty() && found.iter().all(usable) => Some(found),
                _ => {
                    resolver.fault(
                        &ca_at,
                        format!(
                            "{} must hold PEM certificates of authorities, and nothing else does",
                            path.display()
                        ),
                    );
                    None
                }
            }
        });
        UpstreamTls {
            ca_file,
            authorities: authorities.map(|found| Arc::new(found.iter().map(|der| der.to_vec()).collect())),
            server_name: self.server_name,
        }
    }
}
