//! The agents of all requests: the certificates that they trust, the proxies that they use, and the
//! words for their errors.

use std::env;
use std::sync::LazyLock;

use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::typestate::AgentScope;
use ureq::unversioned::transport::{Connector as _, RustlsConnector, TcpConnector};
use ureq::{Agent, Error};

use crate::proxy::{Lookup, Proxied, via};

/// The certificates of trusted authorities.
static ROOTS: LazyLock<Roots> = LazyLock::new(Roots::load);

struct Roots {
    certificates: RootCerts,
    /// What could not be read.
    problems: Vec<String>,
}

impl Roots {
    /// Loads those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, or else those of the system. A
    /// system without any gets those of Mozilla.
    fn load() -> Self {
        let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
            .into_iter()
            .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
        let found = rustls_native_certs::load_native_certs();
        let problems = found.errors.iter().map(ToString::to_string).collect();
        let certificates = if found.certs.is_empty() && !named {
            RootCerts::WebPki
        } else {
            found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).into()
        };
        Self { certificates, problems }
    }
}

/// Builds an agent.
pub fn agent(config: ConfigBuilder<AgentScope>) -> Agent {
    let tls = TlsConfig::builder().root_certs(ROOTS.certificates.clone()).build();
    // The connector chooses the proxy of each server.
    let config = config.tls_config(tls).proxy(None).build();
    let connector =
        ().chain(Proxied).chain(TcpConnector::default()).chain(RustlsConnector::default());
    Agent::with_parts(config, connector, Lookup::default())
}

/// Returns the message of an error of a request to `url`, with the proxy that was used, and the
/// cure if it is known.
pub fn message(url: &str, error: &Error) -> String {
    let text = match error {
        Error::Other(error) => error.to_string(),
        error => error.to_string(),
    };
    let mut text = if text.contains("through the proxy") { text } else { text + &via(url) };
    if text.contains("UnknownIssuer") {
        text += "; this machine does not trust the authority of the server's certificate: set \
                 SSL_CERT_FILE to a PEM file that has the authority's certificate";
        if !ROOTS.problems.is_empty() {
            text = format!("{text} ({})", ROOTS.problems.join("; "));
        }
    }
    text
}
