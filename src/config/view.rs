//! Reads a checked tree by key: what was written, else the default of the table.
//!
//! Every reader gives `None` for what is absent without a default, and for what the check has refused.

use std::time::Duration;

use super::problem::Span;
use super::shape::{Need, Shape, Table, parse_lasting};
use super::tree::{Entry, Kind, Node};

/// A table as written, together with its form.
#[derive(Debug, Clone, Copy)]
pub struct View<'n> {
    node: Option<&'n Node>,
    table: &'static Table,
}

/// A text and where it stands; a default stands at the table that could have had the key.
#[derive(Debug, Clone)]
pub struct Written<'n> {
    /// The text.
    pub text: &'n str,
    /// Where.
    pub span: Span,
}

impl<'n> View<'n> {
    /// The form.
    pub fn form(self) -> &'static Table {
        self.table
    }

    /// A whole file.
    pub fn new(node: &'n Node, table: &'static Table) -> Self {
        Self { node: Some(node), table }
    }

    /// A table within this one; all defaults where it was not written.
    pub fn table(self, key: &str, table: &'static Table) -> Self {
        Self { node: self.written(key).map(|entry| &entry.value), table }
    }

    /// The key with its value, if it was written.
    pub fn written(self, key: &str) -> Option<&'n Entry> {
        debug_assert!(self.table.field(key).is_some(), "no such key: {key}");
        self.node?.get(key)
    }

    /// Where the key stands, or where its table does.
    pub fn span(self, key: &str) -> Span {
        match (self.written(key), self.node) {
            (Some(entry), _) => entry.value.span.clone(),
            (None, Some(node)) => node.span.start..node.span.start,
            (None, None) => 0..0,
        }
    }

    /// A text or one of some words.
    pub fn text(self, key: &str) -> Option<Written<'n>> {
        match self.written(key) {
            Some(Entry { value: Node { span, kind: Kind::Text(text) }, .. }) => {
                Some(Written { text, span: span.clone() })
            }
            Some(_) => None,
            None => self.default(key).map(|text| Written { text, span: self.span(key) }),
        }
    }

    /// A flag.
    pub fn flag(self, key: &str) -> Option<bool> {
        match self.written(key) {
            Some(Entry { value: Node { kind: Kind::Flag(flag), .. }, .. }) => Some(*flag),
            Some(_) => None,
            None => self.default(key).and_then(|text| text.parse().ok()),
        }
    }

    /// A whole number.
    pub fn whole<T: TryFrom<i64>>(self, key: &str) -> Option<T> {
        let number = match self.written(key) {
            Some(Entry { value: Node { kind: Kind::Whole(number), .. }, .. }) => *number,
            Some(_) => return None,
            None => self.default(key)?.parse().ok()?,
        };
        T::try_from(number).ok()
    }

    /// A length of time.
    pub fn lasting(self, key: &str) -> Option<Duration> {
        self.text(key).and_then(|written| parse_lasting(written.text))
    }

    /// A list of texts; empty where it was not written.
    pub fn list(self, key: &str) -> Vec<Written<'n>> {
        match self.written(key) {
            Some(Entry { value: Node { kind: Kind::List(items), .. }, .. }) => {
                items.iter().filter_map(text_of).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The entries of a table with names of the author's.
    pub fn named(self, key: &str) -> &'n [Entry] {
        match self.written(key) {
            Some(Entry { value: Node { kind: Kind::Map(entries), .. }, .. }) => entries,
            _ => &[],
        }
    }

    fn default(self, key: &str) -> Option<&'static str> {
        match self.table.field(key)?.need {
            Need::Default(text) => Some(text),
            Need::Required(_) | Need::Otherwise(_) => None,
        }
    }
}

/// The text of a node, if it is one.
pub fn text_of(node: &Node) -> Option<Written<'_>> {
    match &node.kind {
        Kind::Text(text) => Some(Written { text, span: node.span.clone() }),
        _ => None,
    }
}

/// Visits every key that a file may have, depth first, in the order of the tables. Names of the author's
/// appear as `<name>`, and the table of an [`Shape::Either`] as well as its scalar.
pub fn each_key(table: &'static Table, visit: &mut dyn FnMut(&str, &'static super::shape::Field)) {
    fn walk(table: &'static Table, path: &str, visit: &mut dyn FnMut(&str, &'static super::shape::Field)) {
        for field in table.fields {
            let path = if path.is_empty() { field.key.to_owned() } else { format!("{path}.{}", field.key) };
            visit(&path, field);
            match &field.shape {
                Shape::Table(inner) | Shape::Either(_, inner) => walk(inner, &path, visit),
                Shape::Named { value: Shape::Table(inner), .. } => walk(inner, &format!("{path}.<name>"), visit),
                _ => {}
            }
        }
    }
    walk(table, "", visit);
}
