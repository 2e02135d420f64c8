//! Which host a request is for, and which host label that is. Pure.
//!
//! Guarantees: a request is for exactly one host. A missing, doubled, malformed or self-contradicting name
//! is an error, never a guess; a label is exactly one label directly under the preview domain.
//! Must not know: routes, sockets.

use std::borrow::Cow;
use std::fmt;

use http::header::HOST;
use http::{HeaderMap, Uri};

/// The domain that previews live under: lower-case, without dots at its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewDomain(Box<str>);

/// A preview domain that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the preview domain {0:?} is not a host name: write it like preview.example.com, without scheme, port or '*'")]
pub struct InvalidDomain(String);

/// The host that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'r> {
    /// The host as it was written, without port and without a trailing dot.
    pub name: &'r str,
    /// The port, where one was written.
    pub port: Option<u16>,
}

/// Why a request is for no host at all. The answer is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    /// No `Host` header.
    #[error("the request has no Host header")]
    Missing,
    /// More than one.
    #[error("the request has more than one Host header")]
    Doubled,
    /// Not a host name with an optional port.
    #[error("the request's Host header is not a host name")]
    Malformed,
    /// The request target and the header disagree.
    #[error("the request target and the Host header name different hosts")]
    Contradiction,
}

impl PreviewDomain {
    /// Accepts a domain name in any case, with or without a trailing dot.
    pub fn parse(text: &str) -> Result<Self, InvalidDomain> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.len() <= 190 && name.split('.').all(is_label) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidDomain(text.to_owned()))
        }
    }

    /// The label of a host directly under this domain, in lower case; `None` for every other host.
    pub fn label<'h>(&self, host: &'h str) -> Option<Cow<'h, str>> {
        let dot = host.len().checked_sub(self.0.len() + 1)?;
        let (label, rest) = host.split_at_checked(dot)?;
        let under = rest.strip_prefix('.')?.eq_ignore_ascii_case(&self.0);
        if !under || label.contains('.') {
            return None;
        }
        let label = if label.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(label.to_ascii_lowercase())
        } else {
            Cow::Borrowed(label)
        };
        is_label(&label).then_some(label)
    }
}

impl fmt::Display for PreviewDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The one host that a request is for. A target in absolute form must name the same host as the header.
pub fn authority<'r>(target: &'r Uri, headers: &'r HeaderMap) -> Result<Authority<'r>, BadHost> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().ok_or(BadHost::Missing)?;
    if hosts.next().is_some() {
        return Err(BadHost::Doubled);
    }
    let host = parse(host.to_str().map_err(|_| BadHost::Malformed)?)?;
    if let Some(target) = target.authority() {
        let target = parse(target.as_str())?;
        if !target.name.eq_ignore_ascii_case(host.name) || target.port != host.port {
            return Err(BadHost::Contradiction);
        }
    }
    Ok(host)
}

fn parse(text: &str) -> Result<Authority<'_>, BadHost> {
    let (name, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| BadHost::Malformed)?)
        }
        Some(_) => return Err(BadHost::Malformed),
    };
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = bracketed {
        let valid = address.parse::<std::net::Ipv6Addr>().is_ok();
        return if valid { Ok(Authority { name, port }) } else { Err(BadHost::Malformed) };
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) || name.split('.').any(str::is_empty) {
        return Err(BadHost::Malformed);
    }
    Ok(Authority { name, port })
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn ask<'r>(target: &'r Uri, headers: &'r HeaderMap) -> Result<(String, Option<u16>), BadHost> {
        authority(target, headers).map(|a| (a.name.to_owned(), a.port))
    }

    fn hosts(values: &[&str]) -> HeaderMap {
        values.iter().map(|v| (HOST, HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn one_host_is_read_with_and_without_port_and_dot() {
        let target = Uri::from_static("/a");
        for (given, name, port) in [
            ("pr-1-shop.example.com", "pr-1-shop.example.com", None),
            ("PR-1-Shop.Example.com.", "PR-1-Shop.Example.com", None),
            ("pr-1-shop.example.com:8081", "pr-1-shop.example.com", Some(8081)),
            ("pr-1-shop.example.com.:80", "pr-1-shop.example.com", Some(80)),
            ("pr-1-shop.example.com:", "pr-1-shop.example.com", None),
            ("127.0.0.1:8081", "127.0.0.1", Some(8081)),
            ("[::1]:8081", "[::1]", Some(8081)),
        ] {
            assert_eq!(ask(&target, &hosts(&[given])), Ok((name.to_owned(), port)), "{given}");
        }
    }

    #[test]
    fn anything_but_exactly_one_valid_host_is_an_error() {
        let target = Uri::from_static("/a");
        assert_eq!(ask(&target, &hosts(&[])), Err(BadHost::Missing));
        assert_eq!(ask(&target, &hosts(&["a.example.com", "a.example.com"])), Err(BadHost::Doubled));
        for bad in [
            "",
            ".",
            "a..b",
            ".example.com",
            "a.example.com..",
            "a b.example.com",
            "a.example.com, b.example.com",
            "user@a.example.com",
            "a.example.com/b",
            "a.example.com:80:80",
            "a.example.com:+80",
            "a.example.com:65536",
            "a.example.com:8a",
            "[::1",
            "[zz]",
            "::1",
            "a%2eexample.com",
        ] {
            assert_eq!(ask(&target, &hosts(&[bad])), Err(BadHost::Malformed), "{bad}");
        }
    }

    #[test]
    fn an_absolute_target_must_agree_with_the_header() {
        let headers = hosts(&["pr-1-shop.example.com"]);
        assert!(ask(&Uri::from_static("http://PR-1-shop.example.com/a"), &headers).is_ok());
        for other in
            ["http://pr-2-shop.example.com/a", "http://pr-1-shop.example.com:81/", "http://evil@pr-1-shop.example.com/"]
        {
            assert!(ask(&Uri::from_static(other), &headers).is_err(), "{other}");
        }
    }

    #[test]
    fn a_label_lies_directly_under_the_domain() {
        let domain = PreviewDomain::parse("Preview.Example.com.").unwrap();
        assert_eq!(domain.label("pr-1-shop.preview.example.com").as_deref(), Some("pr-1-shop"));
        assert_eq!(domain.label("PR-1-Shop.PREVIEW.example.com").as_deref(), Some("pr-1-shop"));
        for other in [
            "preview.example.com",
            ".preview.example.com",
            "a.b.preview.example.com",
            "pr-1-shoppreview.example.com",
            "pr-1-shop.preview.example.com.evil.net",
            "-a.preview.example.com",
            "a_b.preview.example.com",
            "localhost",
            "",
        ] {
            assert_eq!(domain.label(other), None, "{other}");
        }
    }

    #[test]
    fn a_domain_is_a_plain_host_name() {
        for bad in ["", "*.example.com", "https://example.com", "example.com:80", "a..b", "ünï.example"] {
            assert!(PreviewDomain::parse(bad).is_err(), "{bad}");
        }
        assert!(PreviewDomain::parse("localhost").is_ok());
    }

    proptest! {
        #[test]
        fn no_text_breaks_parsing_and_no_label_escapes_its_form(text in "\\PC{0,80}") {
            let domain = PreviewDomain::parse("example.com").unwrap();
            let _ = parse(&text);
            if let Some(label) = domain.label(&text) {
                prop_assert!(is_label(&label));
                prop_assert_eq!(text.to_ascii_lowercase(), format!("{label}.example.com"));
            }
        }

        #[test]
        fn every_label_under_the_domain_is_found_in_any_case(label in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", upper: bool, port: Option<u16>) {
            let domain = PreviewDomain::parse("example.com").unwrap();
            let mut host = format!("{label}.example.com");
            if upper { host = host.to_ascii_uppercase(); }
            if let Some(port) = port { host = format!("{host}:{port}"); }
            let read = parse(&host).unwrap();
            prop_assert_eq!(read.port, port);
            let found = domain.label(read.name);
            prop_assert_eq!(found.as_deref(), Some(label.as_str()));
        }
    }
}
