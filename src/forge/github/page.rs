//! Pages of a listing.
//!
//! Guarantees: every page is read, or the listing fails, or it says that it is incomplete; a link to another
//! host is never followed.
//! Must not know: what is listed.

use std::collections::HashSet;

use http::{HeaderMap, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::call::{Ask, Calls, Reading};
use crate::forge::{ForgeError, ForgeErrorKind};

/// What GitHub gives at most.
pub(super) const PAGE_SIZE: usize = 100;
/// 20,000 items. More than that is not one repository's pull requests but a mistake.
const MOST_PAGES: usize = 200;

/// A `Link` that we do not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadLink {
    #[error("GitHub's link to the next page could not be read")]
    Unreadable,
    #[error("GitHub's link leads away from {expected}: check github.api_url")]
    Foreign { expected: String },
}

/// The form of one page.
pub(super) trait Page: Serialize + DeserializeOwned {
    /// What is listed.
    type Item;
    /// How many items the page holds.
    fn count(&self) -> usize;
    /// How many there are in all, where GitHub says so.
    fn total(&self) -> Option<usize> {
        None
    }
    /// The items.
    fn items(self) -> Vec<Self::Item>;
}

impl<T: Serialize + DeserializeOwned> Page for Vec<T> {
    type Item = T;
    fn count(&self) -> usize {
        self.len()
    }
    fn items(self) -> Vec<T> {
        self
    }
}

/// All that was listed.
#[derive(Debug)]
pub(super) struct Pages<T> {
    pub items: Vec<T>,
    pub complete: bool,
}

impl Calls {
    /// Reads all pages, or those before the first one of which `enough` says that nothing more is wanted.
    pub(super) async fn pages<P: Page>(
        &self,
        mut ask: Ask,
        enough: impl Fn(&P) -> bool,
    ) -> Result<Pages<P::Item>, ForgeError> {
        let mut pages = Pages { items: Vec::new(), complete: false };
        let mut visited = HashSet::new();
        for _ in 0..MOST_PAGES {
            if !visited.insert(ask.path.clone()) {
                return Err(ask.error(ForgeErrorKind::Garbled, "GitHub's links lead back to a page already read"));
            }
            let Reading { value, next } = self.read(&ask, may_be_kept::<P>).await?;
            let (last, total) = (enough(&value), value.total());
            pages.items.extend(value.items());
            match next {
                Some(next) if !last => ask.path = next,
                _ => {
                    pages.complete = last || total.is_none_or(|total| pages.items.len() >= total);
                    return Ok(pages);
                }
            }
        }
        Ok(pages)
    }

    /// As [`Calls::pages`], where a part is of no use.
    pub(super) async fn all<P: Page>(&self, ask: Ask) -> Result<Vec<P::Item>, ForgeError> {
        let incomplete = ask.error(ForgeErrorKind::Garbled, format!("the list does not end within {MOST_PAGES} pages"));
        let pages = self.pages::<P>(ask, |_| false).await?;
        if pages.complete { Ok(pages.items) } else { Err(incomplete) }
    }
}

/// "Not modified" speaks of a page's items, not of its links: a last page that is full may have got a
/// successor since.
fn may_be_kept<P: Page>(reading: &Reading<P>) -> bool {
    reading.next.is_some() || reading.value.count() < PAGE_SIZE
}

/// The path of the next page, relative to the API's address.
pub(super) fn next(base: &Url, headers: &HeaderMap) -> Result<Option<String>, BadLink> {
    for value in headers.get_all(header::LINK) {
        let mut rest = value.to_str().map_err(|_| BadLink::Unreadable)?;
        while !rest.trim().is_empty() {
            let (target, after) = bracketed(rest).ok_or(BadLink::Unreadable)?;
            let (parameters, others) = after.split_once(',').unwrap_or((after, ""));
            let is_next = parameters.split(';').any(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or_default();
                name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"') == "next"
            });
            if is_next {
                return here(base, target).map(Some);
            }
            rest = others;
        }
    }
    Ok(None)
}

/// `<target>after`.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    text.trim_start().strip_prefix('<')?.split_once('>')
}

/// The path of an address below the API's, relative to it.
pub(super) fn here(base: &Url, address: &str) -> Result<String, BadLink> {
    let foreign = || BadLink::Foreign { expected: base.as_str().trim_end_matches('/').to_owned() };
    let target = base.join(address).map_err(|_| BadLink::Unreadable)?;
    let credentials = !target.username().is_empty() || target.password().is_some();
    if target.origin() != base.origin() || credentials {
        return Err(foreign());
    }
    let path = target.path().strip_prefix(base.path().trim_end_matches('/')).ok_or_else(foreign)?;
    if !path.starts_with('/') {
        return Err(foreign());
    }
    Ok(target.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const DOTCOM: &str = "https://api.github.com";
    const SERVER: &str = "https://ghe.example/api/v3";

    #[rstest]
    #[case(
        DOTCOM,
        "<https://api.github.com/repositories/7/pulls?page=2&per_page=100>; rel=\"next\", <https://api.github.com/x>; rel=\"last\"",
        "/repositories/7/pulls?page=2&per_page=100"
    )]
    #[case(
        DOTCOM,
        "<https://api.github.com/x?page=1>; rel=\"prev\", <https://api.github.com/x?page=3>; rel=next",
        "/x?page=3"
    )]
    #[case(DOTCOM, "<https://api.github.com/x?a=1,2>;rel=\"next\",<https://api.github.com/y>;rel=\"last\"", "/x?a=1,2")]
    #[case(SERVER, "<https://ghe.example/api/v3/x?page=2>; rel=\"next\"", "/x?page=2")]
    #[case(SERVER, "<https://GHE.example:443/api/v3/x?page=2>; rel=\"next\"", "/x?page=2")]
    fn the_next_page_is_found(#[case] base: &str, #[case] link: &str, #[case] path: &str) {
        let headers = HeaderMap::from_iter([(header::LINK, link.parse().unwrap())]);
        assert_eq!(next(&Url::parse(base).unwrap(), &headers), Ok(Some(path.to_owned())));
    }

    #[rstest]
    #[case("https://evil.example/x?page=2")]
    #[case("http://api.github.com/x?page=2")]
    #[case("https://api.github.com:8443/x")]
    #[case("https://api.github.com.evil.example/x")]
    #[case("https://token@api.github.com/x")]
    #[case("//evil.example/x")]
    fn links_to_other_hosts_are_refused(#[case] target: &str) {
        let headers = HeaderMap::from_iter([(header::LINK, format!("<{target}>; rel=\"next\"").parse().unwrap())]);
        let verdict = next(&Url::parse(DOTCOM).unwrap(), &headers);
        assert_eq!(verdict, Err(BadLink::Foreign { expected: DOTCOM.to_owned() }));
    }

    #[rstest]
    #[case("https://ghe.example/api/v33/x")]
    #[case("https://ghe.example/login")]
    #[case("https://ghe.example/api/v3/../../login")]
    fn links_out_of_the_api_are_refused(#[case] target: &str) {
        assert!(here(&Url::parse(SERVER).unwrap(), target).is_err());
    }

    #[test]
    fn no_link_means_no_page_and_nonsense_is_an_error() {
        let base = Url::parse(DOTCOM).unwrap();
        assert_eq!(next(&base, &HeaderMap::new()), Ok(None));
        let last = "<https://api.github.com/x?page=1>; rel=\"first\"".parse().unwrap();
        assert_eq!(next(&base, &HeaderMap::from_iter([(header::LINK, last)])), Ok(None));
        for nonsense in ["next", "https://api.github.com/x; rel=\"next\"", "<https://api.github.com/x"] {
            let headers = HeaderMap::from_iter([(header::LINK, nonsense.parse().unwrap())]);
            assert_eq!(next(&base, &headers), Err(BadLink::Unreadable), "{nonsense}");
        }
    }
}
