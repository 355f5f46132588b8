//! Proxies, which the environment names as for curl
//! (<https://everything.curl.dev/usingcurl/proxies/env.html>): `http_proxy` (in small letters only),
//! `https_proxy`, `all_proxy` and `no_proxy`.
//!
//! `https` servers are reached through a tunnel (CONNECT). Requests to `http` servers go to the
//! proxy in absolute form, because many proxies refuse tunnels to other ports than 443.

use std::env;
use std::fmt::{self, Debug};
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::sync::LazyLock;

use base64ct::{Base64, Encoding as _};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, NextTimeout, SocksConnector, Transport,
    TransportAdapter,
};
use ureq::{Agent, Error, Proxy};

/// The proxies of this process.
static PROXIES: LazyLock<Proxies> =
    LazyLock::new(|| Proxies::read(|name| env::var(name).ok().filter(|value| !value.is_empty())));

/// Returns the phrase that names the proxy for a URL; empty if there is none.
pub fn via(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    match uri.as_ref().and_then(|uri| PROXIES.of(uri)) {
        Some(Ok(named)) => format!(" (through the proxy {})", named.name),
        _ => String::new(),
    }
}

/// A proxy that a variable names.
struct Named {
    /// Its URL without credentials, and the variable.
    name: String,
    /// Its URL, for the connection to it.
    uri: Uri,
    /// The parameters of a SOCKS connection; `None` for an HTTP proxy.
    socks: Option<Config>,
    /// The credentials of an HTTP proxy, for `Proxy-Authorization: Basic`.
    credentials: Option<String>,
}

/// What a variable says: a proxy, or the fault of its value.
type Route = Option<Result<Named, String>>;

/// All proxies, and the servers that are reached without one.
struct Proxies {
    http: Route,
    https: Route,
    direct: Vec<Exception>,
}

impl Proxies {
    fn read(value: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| -> Route {
            let (name, value) = names.iter().find_map(|name| Some((*name, value(name)?)))?;
            Some(Named::parse(name, &value))
        };
        let direct = value("no_proxy").or_else(|| value("NO_PROXY")).unwrap_or_default();
        let items = direct.split([',', ' ', '\t']).filter(|item| !item.is_empty());
        Self {
            // Not HTTP_PROXY: a CGI program gets the field `Proxy` of a request under this name.
            http: first(&["http_proxy", "all_proxy", "ALL_PROXY"]),
            https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            direct: items.map(Exception::parse).collect(),
        }
    }

    /// Returns the proxy for a URL.
    fn of(&self, uri: &Uri) -> Option<&Result<Named, String>> {
        // A proxy itself is reached directly.
        let is_proxy = |route: &Route| matches!(route, Some(Ok(named)) if named.uri == *uri);
        if is_proxy(&self.http) || is_proxy(&self.https) {
            return None;
        }
        let (route, port) = match uri.scheme_str() {
            Some("https") => (&self.https, 443),
            _ => (&self.http, 80),
        };
        let host = uri.host()?.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(port);
        let direct = self.direct.iter().any(|exception| exception.covers(&host, port));
        route.as_ref().filter(|_| !direct)
    }
}

impl Named {
    fn parse(variable: &str, value: &str) -> Result<Self, String> {
        let text = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        // The value may hold a password.
        let fault = |problem: &str| format!("the variable {variable} names no proxy: {problem}");
        let uri: Uri = text.parse().map_err(|_| fault("it is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| fault("it is not a URL"))?;
        let (user, _) = authority.as_str().rsplit_once('@').unwrap_or_default();
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        // The defaults of curl.
        let port = authority.port_u16().unwrap_or(if scheme == "https" { 443 } else { 1080 });
        let address = format!("{}:{port}", authority.host());
        let socks = match &*scheme {
            "http" | "https" => None,
            "socks" | "socks4" | "socks4a" | "socks5" | "socks5h" => {
                let scheme = if scheme == "socks" { "socks4" } else { &scheme };
                let at = if user.is_empty() { String::new() } else { format!("{user}@") };
                let proxy = Proxy::new(&format!("{scheme}://{at}{address}"));
                let proxy = proxy.map_err(|error| fault(&error.to_string()))?;
                Some(Agent::config_builder().proxy(Some(proxy)).build())
            }
            other => {
                let known = "http, https, socks4, socks4a, socks5 and socks5h";
                return Err(fault(&format!("its scheme is {other}, supported are {known}")));
            }
        };
        let name = format!("{scheme}://{address}");
        let user = percent_decode_str(user).decode_utf8_lossy();
        let credentials = (!user.is_empty()).then(|| Base64::encode_string(user.as_bytes()));
        let uri = format!("{name}/").parse().map_err(|_| fault("it is not a URL"))?;
        Ok(Self { name: format!("{name}, of {variable}"), uri, socks, credentials })
    }

    /// Returns whether the proxy looks up the names of servers.
    fn resolves(&self) -> bool {
        let proxy = self.socks.as_ref().and_then(Config::proxy);
        proxy.is_none_or(|proxy| !proxy.resolve_target())
    }
}

/// An item of `no_proxy`: a name with all names below it, an address or a block of addresses; and a
/// port, if only that one is meant.
struct Exception {
    what: What,
    port: Option<u16>,
}

enum What {
    Everything,
    Addresses(IpNet),
    Name(String),
}

impl Exception {
    fn parse(item: &str) -> Self {
        let (item, port) = match item.rsplit_once(':') {
            // Another colon makes it an IPv6 address, unless that is in brackets.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                port.parse().map_or((item, None), |port| (host, Some(port)))
            }
            _ => (item, None),
        };
        let item = item.trim_matches(['[', ']']);
        let net = item.parse().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
        let what = match net {
            _ if item == "*" => What::Everything,
            Ok(net) => What::Addresses(net),
            Err(_) => {
                let name = item.trim_start_matches('*').trim_matches('.');
                What::Name(name.to_ascii_lowercase())
            }
        };
        Self { what, port }
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let is_host = match &self.what {
            What::Everything => true,
            What::Addresses(net) => host.parse::<IpAddr>().is_ok_and(|host| net.contains(&host)),
            What::Name(name) => host
                .strip_suffix(&**name)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
        };
        is_host && self.port.is_none_or(|only| only == port)
    }
}

fn other(text: String) -> Error {
    Error::Other(text.into())
}

/// Opens connections through the proxies.
#[derive(Debug)]
pub struct Proxied;

impl<In: Transport> Connector<In> for Proxied {
    type Out = Either<In, Box<dyn Transport>>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(transport) = chained {
            return Ok(Some(Either::A(transport)));
        }
        let proxy = match PROXIES.of(details.uri) {
            None => return Ok(None),
            Some(Err(problem)) => return Err(other(problem.clone())),
            Some(Ok(proxy)) => proxy,
        };
        let connected = match &proxy.socks {
            Some(config) => socks(details, config),
            None => through(details, proxy),
        };
        connected
            .map(|transport| Some(Either::B(transport)))
            .map_err(|error| other(format!("through the proxy {}: {error}", proxy.name)))
    }
}

fn socks(details: &ConnectionDetails, config: &Config) -> Result<Box<dyn Transport>, Error> {
    let details = towards(details, details.uri, details.addrs.clone(), config);
    let transport = Connector::<()>::connect(&SocksConnector::default(), &details, None)?;
    Ok(Box::new(transport.ok_or(Error::ConnectionFailed)?))
}

/// Connects to an HTTP proxy, and from there to the server.
fn through(details: &ConnectionDetails, proxy: &Named) -> Result<Box<dyn Transport>, Error> {
    let addresses = details.resolver.resolve(&proxy.uri, details.config, details.timeout)?;
    let hop = towards(details, &proxy.uri, addresses, details.config);
    let transport = (details.run_connector)(&hop)?;
    if details.needs_tls() {
        return tunnel(details, transport, proxy);
    }
    let authority = details.uri.authority().map(ToString::to_string).unwrap_or_default();
    let origin = format!("http://{}", authority.rsplit('@').next().unwrap_or_default());
    let credentials = proxy.credentials.clone();
    Ok(Box::new(Absolute { inner: transport, origin, credentials, sent: false }))
}

/// Returns the same details for another server.
fn towards<'a>(
    details: &ConnectionDetails<'a>,
    uri: &'a Uri,
    addrs: ResolvedSocketAddrs,
    config: &'a Config,
) -> ConnectionDetails<'a> {
    ConnectionDetails {
        uri,
        addrs,
        config,
        request_level: details.request_level,
        resolver: details.resolver,
        now: details.now,
        timeout: details.timeout,
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
    }
}

/// The longest head of an answer to CONNECT that is read, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Asks a proxy for a tunnel to the server (RFC 9110, 9.3.6).
fn tunnel(
    details: &ConnectionDetails,
    transport: Box<dyn Transport>,
    proxy: &Named,
) -> Result<Box<dyn Transport>, Error> {
    let host = details.uri.host().unwrap_or_default();
    let server = format!("{host}:{}", details.uri.port_u16().unwrap_or(443));
    let mut stream = TransportAdapter::new(transport, details.current_time.clone());
    stream.set_timeout(details.timeout);
    write!(stream, "CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n")?;
    if let Some(credentials) = &proxy.credentials {
        write!(stream, "Proxy-Authorization: Basic {credentials}\r\n")?;
    }
    write!(stream, "\r\n")?;
    stream.flush()?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.split(' ').nth(1).unwrap_or_default();
    if head.starts_with("HTTP/1.") && status.starts_with('2') && head.ends_with("\r\n\r\n") {
        return Ok(Box::new(Tunnel(stream.into_inner())));
    }
    let line = head.lines().next().unwrap_or("nothing");
    Err(other(format!("it refuses a tunnel to {server} and answers {line}")))
}

/// A connection through a tunnel. It has no TLS to the server yet.
#[derive(Debug)]
struct Tunnel(Box<dyn Transport>);

impl Transport for Tunnel {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }
}

/// A connection to a proxy, for one request in absolute form (RFC 9112, 3.2.2).
struct Absolute {
    inner: Box<dyn Transport>,
    /// Scheme and authority of the server.
    origin: String,
    credentials: Option<String>,
    /// Whether the head of the request was sent.
    sent: bool,
}

impl Debug for Absolute {
    /// Does not show the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Absolute").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Transport for Absolute {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.sent {
            return self.inner.transmit_output(amount, timeout);
        }
        self.sent = true;
        let output = self.inner.buffers().output();
        let head = absolute(&output[..amount], &self.origin, self.credentials.as_deref());
        let room = output.get_mut(..head.len());
        room.ok_or_else(|| other("the request has too many fields".into()))?.copy_from_slice(&head);
        self.inner.transmit_output(head.len(), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    /// No second request goes over the connection: its head would be taken for a body.
    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        false
    }
}

/// Returns the head of a request with its target in absolute form.
fn absolute(head: &[u8], origin: &str, credentials: Option<&str>) -> Vec<u8> {
    let target = head.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1);
    let fields = head.windows(2).position(|pair| pair == b"\r\n").map_or(head.len(), |at| at + 2);
    let credentials = credentials.map(|it| format!("Proxy-Authorization: Basic {it}\r\n"));
    let credentials = credentials.unwrap_or_default();
    [
        &head[..target],
        origin.as_bytes(),
        &head[target..fields],
        credentials.as_bytes(),
        &head[fields..],
    ]
    .concat()
}

/// Looks up names, except those that a proxy looks up.
#[derive(Debug, Default)]
pub struct Lookup(DefaultResolver);

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        match PROXIES.of(uri) {
            Some(Ok(proxy)) if proxy.resolves() => Ok(self.empty()),
            _ => self.0.resolve(uri, config, timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Proxies, absolute};

    fn proxy(variables: &[(&str, &str)], url: &str) -> String {
        let value = |name: &str| variables.iter().find(|(it, _)| *it == name);
        let proxies = Proxies::read(|name| value(name).map(|(_, value)| (*value).to_owned()));
        match proxies.of(&url.parse().unwrap()) {
            None => String::new(),
            Some(Ok(named)) => named.name.clone(),
            Some(Err(problem)) => problem.clone(),
        }
    }

    #[test]
    fn a_variable_is_for_its_scheme() {
        let both = [("http_proxy", "http://a:1"), ("HTTPS_PROXY", "b:2")];
        assert_eq!(proxy(&both, "http://x/"), "http://a:1, of http_proxy");
        assert_eq!(proxy(&both, "https://x/"), "http://b:2, of HTTPS_PROXY");
        assert_eq!(proxy(&[("HTTP_PROXY", "http://a:1")], "http://x/"), "");
        assert_eq!(
            proxy(&[("all_proxy", "socks5h://a")], "http://x/"),
            "socks5h://a:1080, of all_proxy"
        );
        assert_eq!(proxy(&[("http_proxy", "a")], "http://x/"), "http://a:1080, of http_proxy");
        assert_eq!(
            proxy(&[("https_proxy", "https://u:p@a")], "https://x/"),
            "https://a:443, of https_proxy"
        );
        let fault = proxy(&[("http_proxy", "ftp://u:secret@a")], "http://x/");
        assert!(fault.contains("http_proxy") && fault.contains("ftp") && !fault.contains("secret"));
        assert_eq!(proxy(&[("http_proxy", "http://a:1")], "http://a:1/"), "", "the proxy itself");
    }

    #[test]
    fn no_proxy_has_names_addresses_blocks_and_ports() {
        let direct = |list: &str, url: &str| {
            proxy(&[("all_proxy", "p:1"), ("no_proxy", list)], url).is_empty()
        };
        assert!(direct("a.example, .b.example", "https://x.b.example/"));
        assert!(direct(".b.example", "https://b.example/"));
        assert!(direct("x y", "http://Y./"));
        assert!(!direct("b.example", "http://ab.example/"));
        assert!(direct("*", "http://x/") && direct("*.b.example", "http://x.b.example/"));
        assert!(
            direct("10.0.0.0/8", "http://10.1.2.3/") && !direct("10.0.0.0/8", "http://11.0.0.1/")
        );
        assert!(direct("fe80::/10", "http://[fe80::1]:80/") && direct("[::1]", "http://[::1]/"));
        assert!(direct("x:8080", "http://x:8080/") && !direct("x:8080", "http://x/"));
        assert!(direct("x:443", "https://x/") && direct("[::1]:80", "http://[::1]/"));
    }

    #[test]
    fn a_request_to_a_proxy_names_the_server() {
        let head = absolute(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "http://x", Some("dTpw"));
        let want = "GET http://x/a HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\nHost: x\r\n\r\n";
        assert_eq!(String::from_utf8(head).unwrap(), want);
    }
}
