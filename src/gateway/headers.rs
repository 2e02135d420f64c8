//! What is taken out of and put into the headers that pass through. Pure.
//!
//! Guarantees: hop-by-hop headers end here, those named by `Connection` included; what a client says of
//! forwarding is discarded; an application can neither pose as a page of ours, nor name another
//! environment, nor plant a cookie in other previews.
//! Must not know: routes, sockets.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Names the environment of an answer.
pub const ENVIRONMENT: HeaderName = HeaderName::from_static("x-kagero-environment");
/// Tells a page of ours from the application.
pub const PAGE: HeaderName = HeaderName::from_static("x-kagero-page");
/// Keeps previews out of search engines.
pub const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");
/// The value of [`ROBOTS`].
pub const NOINDEX: HeaderValue = HeaderValue::from_static("noindex");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What the application is told about the way a request came.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address.
    pub client: HeaderValue,
    /// `http` or `https`.
    pub scheme: HeaderValue,
    /// The public port.
    pub port: HeaderValue,
}

/// What becomes of an `Upgrade` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// The request stays HTTP.
    None,
    /// The request asks for a WebSocket.
    WebSocket,
}

/// The address that the load balancer in front appended last, if it is one.
pub fn last_forwarded_for(headers: &HeaderMap) -> Option<std::net::IpAddr> {
    let value = headers.get_all(FORWARDED_FOR).iter().next_back()?;
    value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// Whether a request asks for a WebSocket. Every other upgrade (`h2c` above all) is not passed on.
pub fn requested_switch(headers: &HeaderMap) -> Switch {
    let Some(upgrade) = headers.get(UPGRADE) else { return Switch::None };
    let asked = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    if asked && upgrade.as_bytes().eq_ignore_ascii_case(b"websocket") { Switch::WebSocket } else { Switch::None }
}

/// Turns a client's headers into those for the application.
pub fn to_upstream(headers: &mut HeaderMap, origin: &Origin, switch: Switch) {
    let host = headers.get(HOST).cloned();
    strip(headers, is_ours_in_requests);
    if switch == Switch::WebSocket {
        set_switch(headers);
    }
    headers.insert(FORWARDED_FOR, origin.client.clone());
    headers.insert(FORWARDED_PROTO, origin.scheme.clone());
    headers.insert(FORWARDED_PORT, origin.port.clone());
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
}

/// Turns the application's headers into those for the client.
pub fn to_client(headers: &mut HeaderMap, environment: HeaderValue, host: &str, switch: Switch) {
    strip(headers, is_ours_in_answers);
    if switch == Switch::WebSocket {
        set_switch(headers);
    }
    if headers.contains_key(SET_COOKIE) {
        keep_cookies_at_home(headers, host);
    }
    headers.insert(ROBOTS, NOINDEX);
    headers.insert(ENVIRONMENT, environment);
}

fn set_switch(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Removes hop-by-hop headers and those that `ours` tells.
fn strip(headers: &mut HeaderMap, ours: fn(&HeaderName) -> bool) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        // What frames or routes the message is not for a sender to take away.
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    let gone: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name) || ours(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    [CONNECTION, UPGRADE, TRANSFER_ENCODING, TE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

fn is_ours_in_requests(name: &HeaderName) -> bool {
    // `Expect` is answered here: hyper sends 100 as soon as the application takes the body.
    *name == FORWARDED || *name == EXPECT || {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || name.starts_with("x-kagero-") || name == "x-real-ip"
    }
}

fn is_ours_in_answers(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-kagero-")
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Drops `Domain` from cookies that would be sent to hosts other than the one that sets them.
fn keep_cookies_at_home(headers: &mut HeaderMap, host: &str) {
    let http::header::Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) else { return };
    for cookie in cookies.iter_mut() {
        let wide = |part: &[u8]| {
            let part = part.trim_ascii();
            match part.iter().position(|&b| b == b'=') {
                Some(at) if part[..at].trim_ascii().eq_ignore_ascii_case(b"domain") => {
                    let domain = part[at + 1..].trim_ascii();
                    !domain.strip_prefix(b".").unwrap_or(domain).eq_ignore_ascii_case(host.as_bytes())
                }
                _ => false,
            }
        };
        if cookie.as_bytes().split(|&b| b == b';').skip(1).any(wide) {
            let mut parts = cookie.as_bytes().split(|&b| b == b';');
            let mut kept = parts.next().unwrap_or_default().to_vec();
            for part in parts.filter(|part| !wide(part)) {
                kept.push(b';');
                kept.extend_from_slice(part);
            }
            if let Ok(kept) = HeaderValue::from_bytes(&kept) {
                *cookie = kept;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|&(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    fn origin() -> Origin {
        Origin {
            client: HeaderValue::from_static("192.0.2.7"),
            scheme: HeaderValue::from_static("https"),
            port: HeaderValue::from_static("443"),
        }
    }

    #[test]
    fn what_the_client_says_of_forwarding_and_of_the_connection_ends_here() {
        let mut headers = map(&[
            ("host", "pr-1-shop.example.com"),
            ("accept", "*/*"),
            ("connection", "keep-alive, x-secret, Upgrade, host, content-length"),
            ("content-length", "3"),
            ("x-secret", "1"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("forwarded", "for=203.0.113.9"),
            ("x-real-ip", "203.0.113.9"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "203.0.113.10"),
            ("x-forwarded-host", "pr-2-shop.example.com"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-prefix", "/evil"),
            ("x-kagero-environment", "0000"),
        ]);
        let switch = requested_switch(&headers);
        to_upstream(&mut headers, &origin(), switch);
        assert_eq!(
            shown(&headers),
            [
                "accept: */*",
                "content-length: 3",
                "host: pr-1-shop.example.com",
                "http2-settings: AAMAAABk",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: pr-1-shop.example.com",
                "x-forwarded-port: 443",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn only_a_websocket_is_switched_to() {
        for (connection, upgrade, expected) in [
            ("Upgrade", "websocket", Switch::WebSocket),
            ("keep-alive, Upgrade", "WebSocket", Switch::WebSocket),
            ("keep-alive", "websocket", Switch::None),
            ("upgrade", "h2c", Switch::None),
            ("upgrade", "websocket, h2c", Switch::None),
        ] {
            let mut headers = map(&[("connection", connection), ("upgrade", upgrade), ("host", "a.b")]);
            assert_eq!(requested_switch(&headers), expected, "{connection} / {upgrade}");
            to_upstream(&mut headers, &origin(), expected);
            assert_eq!(headers.contains_key(UPGRADE), expected == Switch::WebSocket, "{connection} / {upgrade}");
        }
    }

    #[test]
    fn an_application_cannot_pose_as_a_page_or_as_another_environment() {
        let mut headers = map(&[
            ("content-type", "text/html"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("x-robots-tag", "all"),
            ("x-kagero-environment", "other"),
            ("x-kagero-page", "boot"),
        ]);
        to_client(&mut headers, HeaderValue::from_static("uid"), "pr-1-shop.example.com", Switch::None);
        assert_eq!(shown(&headers), ["content-type: text/html", "x-kagero-environment: uid", "x-robots-tag: noindex"]);
    }

    #[test]
    fn cookies_stay_with_the_host_that_sets_them() {
        let mut headers = map(&[
            ("set-cookie", "a=1; Domain=.example.com; Path=/; Secure"),
            ("set-cookie", "b=2; domain = pr-1-shop.example.com; Path=/"),
            ("set-cookie", "c=domain=example.com; Path=/"),
            ("set-cookie", "d=4;DOMAIN=pr-2-shop.example.com"),
        ]);
        to_client(&mut headers, HeaderValue::from_static("uid"), "pr-1-shop.example.com", Switch::None);
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().map(|c| c.to_str().unwrap()).collect();
        assert_eq!(
            cookies,
            [
                "a=1; Path=/; Secure",
                "b=2; domain = pr-1-shop.example.com; Path=/",
                "c=domain=example.com; Path=/",
                "d=4"
            ]
        );
    }

    #[test]
    fn the_last_forwarded_address_is_the_load_balancers_word() {
        assert_eq!(
            last_forwarded_for(&map(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "spoof, 192.0.2.9")])),
            Some("192.0.2.9".parse().unwrap())
        );
        assert_eq!(last_forwarded_for(&map(&[("x-forwarded-for", "192.0.2.9, nonsense")])), None);
        assert_eq!(last_forwarded_for(&HeaderMap::new()), None);
    }
}
