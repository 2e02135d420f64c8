//! Comments from Markdown to HTML.
//!
//! Guarantees: of raw HTML only `<details>`, `<summary>`, `<br>`, `<sub>`, `<sup>` and `<kbd>` get through,
//! without attributes but `open`; comments vanish, everything else is shown as text. Links lead to http,
//! https or this site.

use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, TagEnd, html};

use super::html_escape;

const ALLOWED: [&str; 7] = ["details", "summary", "br", "sub", "sup", "kbd", "b"];

/// Renders Markdown as GitHub would, as far as Kagero's comments use it.
pub(super) fn render(text: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let events = Parser::new_ext(text, options).filter_map(clean);
    let mut page = String::new();
    html::push_html(&mut page, events);
    page
}

fn clean(event: Event<'_>) -> Option<Event<'_>> {
    match event {
        Event::Html(raw) => Some(Event::Html(sanitised(&raw).into())),
        Event::InlineHtml(raw) => Some(Event::InlineHtml(sanitised(&raw).into())),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let dest_url = safe_address(link_type, dest_url);
            Some(Event::Start(Tag::Link { link_type, dest_url, title, id }))
        }
        // Pictures would be loaded from elsewhere: their text stands for them.
        Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => None,
        event => Some(event),
    }
}

fn safe_address(kind: LinkType, address: CowStr<'_>) -> CowStr<'_> {
    let lower = address.to_ascii_lowercase();
    let local = (lower.starts_with('/') && !lower.starts_with("//")) || lower.starts_with('#');
    if local || lower.starts_with("http://") || lower.starts_with("https://") || kind == LinkType::Email {
        address
    } else {
        "#".into()
    }
}

/// Raw HTML, with what is not allowed shown as text.
fn sanitised(raw: &str) -> String {
    let mut safe = String::new();
    let mut rest = raw;
    while let Some(at) = rest.find('<') {
        safe.push_str(&html_escape(&rest[..at]));
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        if let Some(end) = rest.find('>')
            && let Some(tag) = allowed(&rest[1..end])
        {
            safe.push_str(&tag);
            rest = &rest[end + 1..];
            continue;
        }
        safe.push_str("&lt;");
        rest = &rest[1..];
    }
    safe.push_str(&html_escape(rest));
    safe
}

/// A tag that may stand, written anew.
fn allowed(inside: &str) -> Option<String> {
    let (slash, inside) = inside.strip_prefix('/').map_or(("", inside), |inside| ("/", inside));
    let inside = inside.trim().trim_end_matches('/').trim_end().to_ascii_lowercase();
    if inside == "details open" && slash.is_empty() {
        return Some("<details open>".to_owned());
    }
    ALLOWED.contains(&inside.as_str()).then(|| format!("<{slash}{inside}>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sticky_comment_becomes_a_table_and_a_fold() {
        let page = render(
            "<!-- kagero:uid -->\n### Preview\n\n| Name | Status |\n|---|---|\n| web | ready |\n\n\
             <details><summary>Log</summary>\n\n```\nline <1>\n```\n\n</details>\n",
        );
        assert!(!page.contains("kagero:uid"), "{page}");
        assert!(page.contains("<td>web</td>"), "{page}");
        assert!(page.contains("<details><summary>Log</summary>"), "{page}");
        assert!(page.contains("line &lt;1&gt;"), "{page}");
    }

    #[test]
    fn hostile_text_stays_text() {
        for hostile in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "<details ontoggle=alert(1)>",
            "[x](javascript:alert(1))",
            "[x](//evil.example)",
            "<a href=\"javascript:alert(1)\">x</a>",
            "<!-- a --><iframe src=x>",
            "![x](http://evil.example/pixel.png)",
            "<summary<script>",
        ] {
            let page = render(hostile);
            for bad in ["<script", "<img", "<iframe", "<details o", "javascript:alert(1)\"", "href=\"//", "<a href=\"j"]
            {
                let live = page.contains(bad) && !page.contains(&format!("&lt;{}", bad.trim_start_matches('<')));
                assert!(!live, "{hostile} became {page}");
            }
        }
    }
}
