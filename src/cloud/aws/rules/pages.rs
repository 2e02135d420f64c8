//! Listings of many pages.
//!
//! Guarantees: a listing that goes round in circles, or on for ever, says that it is not complete.
//! Must not know: what is listed, how a page is asked for.

use std::collections::HashSet;

/// More pages than any fleet has.
const MOST: usize = 2_000;

/// What came of all pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered<T> {
    /// Everything that was shown.
    pub items: Vec<T>,
    /// Whether the listing came to its end.
    pub complete: bool,
}

/// A listing while it is read.
#[derive(Debug)]
pub struct Pages<T> {
    items: Vec<T>,
    asked: HashSet<String>,
    at: At,
}

/// How far a listing is.
#[derive(Debug, PartialEq, Eq)]
enum At {
    /// This page is to be read next; the first one has no token.
    Page(Option<String>),
    /// There is no further page.
    End,
    /// It leads nowhere.
    Lost,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { items: Vec::new(), asked: HashSet::new(), at: At::Page(None) }
    }
}

impl<T> Pages<T> {
    /// The token of the page to ask for, if there is a further one; the first one has none.
    pub fn wanted(&self) -> Option<Option<String>> {
        match &self.at {
            At::Page(token) => Some(token.clone()),
            At::End | At::Lost => None,
        }
    }

    /// Takes what a page shows, and how the next one is asked for.
    pub fn add(&mut self, items: impl IntoIterator<Item = T>, next: Option<&str>) {
        self.items.extend(items);
        self.at = match next.filter(|token| !token.is_empty()) {
            None => At::End,
            Some(token) if !self.asked.insert(token.to_owned()) || self.asked.len() >= MOST => At::Lost,
            Some(token) => At::Page(Some(token.to_owned())),
        };
    }

    /// Everything that was shown, and whether that is all.
    pub fn gathered(self) -> Gathered<T> {
        Gathered { items: self.items, complete: self.at == At::End }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(all: &[(&[u8], Option<&str>)]) -> Gathered<u8> {
        let (mut pages, mut turn) = (Pages::default(), all.iter());
        while pages.wanted().is_some()
            && let Some((items, next)) = turn.next()
        {
            pages.add(items.iter().copied(), *next);
        }
        pages.gathered()
    }

    #[test]
    fn a_listing_ends_where_there_is_no_further_page() {
        let all = listed(&[(&[1], Some("b")), (&[], Some("c")), (&[2], None), (&[3], None)]);
        assert_eq!(all, Gathered { items: vec![1, 2], complete: true });
        let all = listed(&[(&[1], Some("")), (&[3], None)]);
        assert_eq!(all, Gathered { items: vec![1], complete: true }, "an empty token is none");
    }

    #[test]
    fn a_token_that_comes_again_is_no_end() {
        let all = listed(&[(&[1], Some("b")), (&[2], Some("b")), (&[3], None)]);
        assert_eq!(all, Gathered { items: vec![1, 2], complete: false });
    }

    #[test]
    fn a_listing_that_is_broken_off_or_goes_on_for_ever_is_not_complete() {
        assert!(!listed(&[(&[1], Some("b"))]).complete);
        let mut pages = Pages::default();
        let mut asked = 0;
        while let Some(token) = pages.wanted() {
            asked += 1;
            pages.add([1_u8], Some(&format!("{}x", token.unwrap_or_default())));
        }
        assert_eq!((asked, pages.gathered().complete), (MOST, false));
    }
}
