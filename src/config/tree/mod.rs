//! What was written: one small tree for both languages, every node with its place.
//!
//! Guarantees: bounded in depth and in number of nodes whatever the text; keys of a map are unique (the
//! second of two equal keys is reported and dropped).
//! Must not know: what any key means.

mod toml;
mod yaml;

use super::problem::{Problem, Problems, Span};

/// Larger files are refused unread.
pub const MAX_BYTES: usize = 64 * 1024;
/// Larger trees are refused: aliases could make a small file into a large one.
const MAX_NODES: usize = 5_000;

/// A language that configuration is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `kagero.toml`.
    Toml,
    /// `.kagero.yml`.
    Yaml,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where.
    pub span: Span,
    /// What.
    pub kind: Kind,
}

/// A value.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Nothing, written as `~`, `null` or as nothing.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A table or map, in the order of the file.
    Map(Vec<Entry>),
    /// A value of a type that no key has: a float, a date.
    Foreign(&'static str),
    /// It was cut off by a syntax error, which has been reported.
    Unreadable,
}

impl Kind {
    /// For people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Flag(_) => "true or false",
            Self::Whole(_) => "a whole number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a table",
            Self::Foreign(name) => name,
            Self::Unreadable => "unreadable",
        }
    }
}

/// A key with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// Whether a tree shows the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// A syntax error has cut something off: what is missing in the tree may stand in the file.
    Part,
}

/// Reads a text. Syntax errors and duplicate keys go to `problems`; the rest of the file is still given.
pub fn parse(language: Language, text: &str, problems: &mut Problems) -> (Node, Extent) {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} KiB, more than the {} KiB allowed", text.len() / 1024, MAX_BYTES / 1024);
        problems.push(Problem::new(0..0, message, ""));
        return (Node { span: 0..0, kind: Kind::Unreadable }, Extent::Part);
    }
    match language {
        Language::Toml => toml::parse(text, problems),
        Language::Yaml => yaml::parse(text, problems),
    }
}

impl Node {
    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

fn duplicate(key: &str, span: Span) -> Problem {
    Problem::new(span, format!("`{key}` is written twice"), "the second one")
        .help("remove one of the two; neither would be certain to win")
}
