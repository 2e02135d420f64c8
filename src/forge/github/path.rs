//! Paths and queries of requests, made of text that others wrote.
//!
//! Guarantees: whatever the text, the path has the segments that were meant, and stays below the API's
//! address. Pure. Must not know: what is asked there.

use url::form_urlencoded::Serializer;

use crate::domain::id::RepoName;

/// Text that no path can carry: an address with a `..` in it means another place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be part of an address: it has an empty segment, '.' or '..'")]
pub(super) struct BadPath {
    text: String,
}

/// The path of something in a repository.
pub(super) fn repo(name: &RepoName, rest: &str) -> Result<String, BadPath> {
    Ok(format!("/repos/{}/{}/{rest}", segments(&name.owner)?, segments(&name.name)?))
}

/// Escapes text that may have several segments, for example a branch's name.
pub(super) fn segments(text: &str) -> Result<String, BadPath> {
    let bad = || BadPath { text: text.to_owned() };
    let mut path = String::with_capacity(text.len());
    for (index, segment) in text.split('/').enumerate() {
        if matches!(segment, "" | "." | "..") {
            return Err(bad());
        }
        if index > 0 {
            path.push('/');
        }
        for byte in segment.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
                path.push(char::from(byte));
            } else {
                path.push('%');
                path.push_str(&hex::encode_upper([byte]));
            }
        }
    }
    Ok(path)
}

/// Adds a query.
pub(super) fn with(path: &str, query: &[(&str, &str)]) -> String {
    format!("{path}?{}", Serializer::new(String::new()).extend_pairs(query).finish())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    #[test]
    fn hostile_branch_names_stay_where_they_are() {
        assert_eq!(segments("feature/a b?c#d%2e").unwrap(), "feature/a%20b%3Fc%23d%252e");
        for bad in ["..", "a/../../user", "", "a//b", "/a", "a/", "."] {
            assert!(segments(bad).is_err(), "{bad}");
        }
        assert_eq!(with("/x", &[("ref", "a&b=c d"), ("per_page", "100")]), "/x?ref=a%26b%3Dc+d&per_page=100");
    }

    proptest! {
        #[test]
        fn every_accepted_text_survives_the_parsing_of_addresses(text in "\\PC{1,30}") {
            if let Ok(path) = segments(&text) {
                let url = Url::parse(&format!("https://host/base/{path}?q")).unwrap();
                prop_assert_eq!(url.path(), format!("/base/{path}"));
                prop_assert_eq!(path.split('/').count(), text.split('/').count());
            }
        }
    }
}
