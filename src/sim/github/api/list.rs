//! Pages of lists and their `Link` headers.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::ApiError;
use crate::sim::github::Shared;

/// A request's query.
pub(super) type Query = BTreeMap<String, String>;

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub number: usize,
    pub size: usize,
}

impl Page {
    pub(super) fn of(query: &Query) -> Self {
        let number = |name: &str, default: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
        Self { number: number("page", 1).max(1), size: number("per_page", 30).clamp(1, 100) }
    }

    pub(super) fn cut<T>(self, all: &[T]) -> &[T] {
        let from = ((self.number - 1) * self.size).min(all.len());
        &all[from..(from + self.size).min(all.len())]
    }

    /// The `Link` header of a list of that length.
    fn link(self, address: &str, query: &Query, total: usize) -> Option<String> {
        let last = total.div_ceil(self.size).max(1);
        let to = |number: usize, rel: &str| {
            let mut query = query.clone();
            query.insert("page".to_owned(), number.to_string());
            format!("<{address}?{}>; rel=\"{rel}\"", encode(&query))
        };
        let mut links = Vec::new();
        if self.number > 1 {
            links.push(to(self.number - 1, "prev"));
        }
        if self.number < last {
            links.push(to(self.number + 1, "next"));
            links.push(to(last, "last"));
        }
        if self.number > 1 {
            links.push(to(1, "first"));
        }
        (!links.is_empty()).then(|| links.join(", "))
    }
}

pub(super) fn encode(query: &Query) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(query);
    text.finish()
}

/// One page of a list, with each item written by `write`.
pub(super) fn answer<T>(
    shared: &Shared,
    path: &str,
    query: &Query,
    all: &[T],
    write: impl Fn(&T) -> Value,
) -> Result<Response, ApiError> {
    wrapped(shared, path, query, all, write, Value::Array)
}

/// One page of a list inside of something.
pub(super) fn wrapped<T>(
    shared: &Shared,
    path: &str,
    query: &Query,
    all: &[T],
    write: impl Fn(&T) -> Value,
    wrap: impl FnOnce(Vec<Value>) -> Value,
) -> Result<Response, ApiError> {
    let page = Page::of(query);
    let items = page.cut(all).iter().map(write).collect();
    let mut answer = axum::Json(wrap(items)).into_response();
    if let Some(link) = page.link(&format!("{}{path}", shared.links.api), query, all.len()) {
        let link = HeaderValue::from_str(&link).map_err(|_| ApiError::not_found())?;
        answer.headers_mut().insert(header::LINK, link);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_from_page_to_page() {
        let query = Query::from([("per_page".to_owned(), "2".to_owned()), ("state".to_owned(), "open".to_owned())]);
        let page = |number| Page { number, size: 2 };
        assert_eq!(page(1).link("http://x/y", &query, 2), None);
        let link = page(2).link("http://x/y", &query, 5).unwrap();
        assert_eq!(
            link,
            "<http://x/y?page=1&per_page=2&state=open>; rel=\"prev\", \
             <http://x/y?page=3&per_page=2&state=open>; rel=\"next\", \
             <http://x/y?page=3&per_page=2&state=open>; rel=\"last\", \
             <http://x/y?page=1&per_page=2&state=open>; rel=\"first\""
        );
        assert_eq!(page(3).cut(&[1, 2, 3, 4, 5]), [5]);
        assert!(page(9).cut(&[1]).is_empty());
    }
}
