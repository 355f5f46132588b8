//! The way to servers: certificates and proxies, with a real server by TLS and proxies made here.

mod machine;

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;

use machine::{Published, authority, error_of, succeeded, text};

fn pull(published: &Published, endpoint: &str, variables: &[(&str, &str)]) -> Output {
    let mut tool = published.tool(endpoint, &["pull", "tiny", "--set", "cdn.retries=0"]);
    tool.envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn a_private_authority_is_trusted_by_a_variable() {
    let published = Published::new(300_000);
    let folder = published.path("tls");
    fs::create_dir(&folder).unwrap();
    authority(&folder);
    let key = folder.join("server.key");
    let (mut server, endpoint) = published.gcs.with_tls(&folder.join("server.pem"), &key);
    let refused = error_of(&pull(&published, &endpoint, &[]));
    assert!(
        refused.contains("UnknownIssuer") && refused.contains("set SSL_CERT_FILE"),
        "{refused}"
    );
    let missing = error_of(&pull(&published, &endpoint, &[("SSL_CERT_FILE", "/no/such.pem")]));
    assert!(missing.contains("/no/such.pem"), "{missing}");
    let ca = folder.join("ca.pem");
    succeeded(&pull(&published, &endpoint, &[("SSL_CERT_FILE", text(&ca))]));
    let hashed = folder.join("hashed");
    fs::create_dir(&hashed).unwrap();
    fs::copy(&ca, hashed.join("ca.pem")).unwrap();
    fs::remove_dir_all(published.path("home")).unwrap();
    fs::create_dir(published.path("home")).unwrap();
    succeeded(&pull(&published, &endpoint, &[("SSL_CERT_DIR", text(&hashed))]));

    // The same through a proxy: by a tunnel.
    fs::remove_dir_all(published.path("home")).unwrap();
    fs::create_dir(published.path("home")).unwrap();
    let (proxy, asked) = http_proxy();
    let variables = [("https_proxy", &*proxy), ("SSL_CERT_FILE", text(&ca))];
    succeeded(&pull(&published, &endpoint, &variables));
    let server_name = endpoint.trim_start_matches("https://");
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|line| line.starts_with(&format!("CONNECT {server_name} "))));
    assert!(!asked.is_empty());
    server.kill().unwrap();
    server.wait().unwrap();
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Connects two streams until both end.
fn join(client: TcpStream, server: TcpStream) {
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let up = thread::spawn(move || pass(from, to));
    pass(server, client);
    let _ = up.join();
}

/// Starts an HTTP proxy: tunnels, and requests in absolute form. Returns its URL with credentials,
/// and the first line of each request.
fn http_proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://some%40body:secret@{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, log) = (client.unwrap(), Arc::clone(&log));
            thread::spawn(move || relay(client, &log));
        }
    });
    (url, asked)
}

fn relay(mut client: TcpStream, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let (line, fields) = head.split_once("\r\n")?;
    // base64 of some@body:secret
    if !fields.contains("Proxy-Authorization: Basic c29tZUBib2R5OnNlY3JldA==\r\n") {
        client.write_all(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n").ok()?;
        return None;
    }
    log.lock().unwrap().push(line.to_owned());
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    if method == "CONNECT" {
        let server = TcpStream::connect(target).ok()?;
        client.write_all(b"HTTP/1.1 200 Here you are\r\n\r\n").ok()?;
        join(client, server);
        return Some(());
    }
    let (host, path) = target.strip_prefix("http://")?.split_once('/')?;
    let mut server = TcpStream::connect(host).ok()?;
    let fields = fields.replacen("Proxy-Authorization: Basic c29tZUBib2R5OnNlY3JldA==\r\n", "", 1);
    write!(server, "{method} /{path} HTTP/1.1\r\n{fields}").ok()?;
    join(client, server);
    Some(())
}

#[test]
fn http_servers_are_reached_through_a_proxy() {
    let published = Published::new(300_000);
    let endpoint = published.gcs.endpoint.clone();
    let (proxy, asked) = http_proxy();
    succeeded(&pull(&published, &endpoint, &[("http_proxy", &proxy)]));
    let lines = asked.lock().unwrap().clone();
    let absolute = format!("GET {endpoint}/edge-net-models/tiny/");
    assert!(lines.len() > 2 && lines.iter().all(|line| line.starts_with(&absolute)), "{lines:?}");

    asked.lock().unwrap().clear();
    let direct = ["no-such, 127.0.0.0/8", "127.0.0.1", "*", "x 127.0.0.1"];
    for direct in direct {
        succeeded(&pull(&published, &endpoint, &[("http_proxy", &proxy), ("no_proxy", direct)]));
    }
    succeeded(&pull(&published, &endpoint, &[("HTTP_PROXY", &proxy)]));
    succeeded(&pull(&published, &endpoint, &[("https_proxy", &proxy)]));
    assert!(asked.lock().unwrap().is_empty());

    // Errors name the proxy, and keep the password.
    let named = |variables: &[(&str, &str)], cause: &str| {
        let _ = fs::remove_dir_all(published.path("home/.edge-net/models"));
        let said = error_of(&pull(&published, &endpoint, variables));
        assert!(said.contains(cause) && !said.contains("secret"), "{said}");
    };
    named(
        &[("http_proxy", "http://a:secret@127.0.0.1:9")],
        "proxy http://127.0.0.1:9, of http_proxy",
    );
    named(&[("all_proxy", "http://127.0.0.1:9")], "proxy http://127.0.0.1:9, of all_proxy");
    named(&[("http_proxy", "gopher://secret")], "http_proxy names no proxy: its scheme is gopher");
    let stranger = proxy.replace("some%40body:secret@", "");
    named(&[("http_proxy", &stranger)], "status 407");
    named(&[("http_proxy", &stranger)], &format!("through the proxy {stranger}, of http_proxy"));
}

/// Starts a SOCKS5 proxy (RFC 1928) without authentication. Returns its address, and the hosts that
/// it was asked for.
fn socks() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, log) = (client.unwrap(), Arc::clone(&log));
            thread::spawn(move || serve_socks(client, &log));
        }
    });
    (address, asked)
}

fn take(client: &mut TcpStream, count: u8) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; count.into()];
    client.read_exact(&mut buffer)?;
    Ok(buffer)
}

fn serve_socks(mut client: TcpStream, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let methods = take(&mut client, 2)?[1];
    take(&mut client, methods)?;
    client.write_all(&[5, 0])?;
    let kind = take(&mut client, 4)?[3];
    let host = if kind == 3 {
        let length = take(&mut client, 1)?[0];
        String::from_utf8_lossy(&take(&mut client, length)?).into_owned()
    } else {
        take(&mut client, 4)?.iter().map(u8::to_string).collect::<Vec<_>>().join(".")
    };
    let port = take(&mut client, 2)?;
    log.lock().unwrap().push(host.clone());
    let server = TcpStream::connect((host.as_str(), u16::from_be_bytes([port[0], port[1]])))?;
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0])?;
    join(client, server);
    Ok(())
}

#[test]
fn a_socks_proxy_is_used() {
    let published = Published::new(300_000);
    let (address, asked) = socks();
    let endpoint = published.gcs.endpoint.clone();
    let proxy = format!("socks5h://{address}");
    succeeded(&pull(&published, &endpoint, &[("all_proxy", &proxy)]));
    let asked = asked.lock().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|host| host == "127.0.0.1"), "{asked:?}");
}
