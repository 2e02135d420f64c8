//! TOML to tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Entry, Extent, Kind, Node, duplicate};
use crate::config::problem::{Problem, Problems};
use crate::config::secret;

pub(super) fn parse(text: &str, problems: &mut Problems) -> (Node, Extent) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut extent = Extent::Whole;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        hide_line(text, span.start, problems);
        if error.message().starts_with("duplicate key") {
            problems.push(duplicate(text.get(span.clone()).unwrap_or("the key").trim_matches(['"', '\'']), span));
        } else {
            extent = Extent::Part;
            problems.push(Problem::new(span, format!("not valid TOML: {}", error.message()), ""));
        }
    }
    let span = table.span();
    let kind = map(table.into_inner());
    (Node { span, kind }, extent)
}

fn node(value: Spanned<DeValue<'_>>) -> Node {
    let span = value.span();
    let kind = match value.into_inner() {
        DeValue::String(text) => Kind::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Kind::Whole(number),
            Err(_) => Kind::Foreign("a number too large"),
        },
        DeValue::Boolean(flag) => Kind::Flag(flag),
        DeValue::Float(_) => Kind::Foreign("a number with a fraction"),
        DeValue::Datetime(_) => Kind::Foreign("a date or time"),
        DeValue::Array(items) => Kind::List(items.into_iter().map(node).collect()),
        DeValue::Table(table) => map(table),
    };
    Node { span, kind }
}

fn map(table: DeTable<'_>) -> Kind {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry { key_span: key.span(), key: key.into_inner().into_owned(), value: node(value) })
        .collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    Kind::Map(entries)
}

/// A line that cannot be read may still hold a secret: a value where one belongs, or a part of a key that
/// was pasted.
fn hide_line(text: &str, at: usize, problems: &mut Problems) {
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let end = before.len() + after.find('\n').unwrap_or(after.len());
    let line = text.get(start..end).unwrap_or_default();
    match line.split_once('=') {
        _ if line.starts_with('[') => {}
        Some((key, _)) if is_key(key) => {
            if secret::is_likely_in(key) {
                problems.mask(start + key.len() + 1..end);
            }
        }
        _ => problems.mask(start..end),
    }
}

fn is_key(text: &str) -> bool {
    text.len() <= 40
        && text.trim().starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'.' | b' '))
}
