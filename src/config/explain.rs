//! What counts, key by key, and where it comes from: the data of `kagero config explain`.
//!
//! Guarantees: secrets appear as their references.

use super::problem::{ConfigErrors, Problems, printable};
use super::repo::{self, REPO};
use super::server::Server;
use super::shape::{Need, Shape, Table};
use super::tree::{Entry, Kind, Language, Node, parse};
use super::view::View;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// The key with its path: `github.app_id`.
    pub key: String,
    /// What counts.
    pub value: String,
    /// Where it comes from.
    pub source: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nothing was written.
    Default,
    /// The file; for `.kagero.yml` with its branch.
    File(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) => f.write_str(name),
        }
    }
}

/// The operator's configuration.
pub fn server(server: &Server) -> &[Row] {
    &server.explained
}

/// A repository's configuration for one pull request: each key from the side that decides on it.
pub fn repo(
    base: Option<&str>,
    head: Option<&str>,
    base_name: &str,
    head_name: &str,
) -> Result<Vec<Row>, ConfigErrors> {
    let empty = Node { span: 0..0, kind: Kind::Map(Vec::new()) };
    let read = |text: Option<&str>, name: &str| -> Result<Option<Node>, ConfigErrors> {
        let Some(text) = text else { return Ok(None) };
        repo::parse_repo(&format!(".kagero.yml ({name})"), text)?;
        Ok(Some(parse(Language::Yaml, text, &mut Problems::default()).0))
    };
    let base = read(base, base_name)?;
    let head = read(head, head_name)?;
    let (head, head_name) = match (&head, &base) {
        (Some(head), _) => (head, head_name),
        (None, Some(base)) => (base, base_name),
        (None, None) => (&empty, head_name),
    };
    let trusted = rows(View::new(base.as_ref().unwrap_or(&empty), &REPO), &printable(base_name, 100));
    let run = rows(View::new(head, &REPO), &printable(head_name, 100));
    let from_head = |key: &str| {
        ["version", "services", "compose", "build", "env", "database.migrate"]
            .iter()
            .any(|mine| key.strip_prefix(mine).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    let granted = trusted.iter().any(|row| row.key == "database.engine");
    let mut rows: Vec<Row> = run.into_iter().filter(|row| from_head(&row.key)).collect();
    rows.retain(|row| granted || !row.key.starts_with("database"));
    rows.extend(trusted.into_iter().filter(|row| !from_head(&row.key)));
    rows.sort_by_key(|row| order(&row.key));
    Ok(rows)
}

/// The place of a key in the file's table: rows of both sides are shown in one order.
fn order(key: &str) -> usize {
    let first = key.split('.').next().unwrap_or_default();
    REPO.fields.iter().position(|field| field.key == first).unwrap_or(usize::MAX)
}

pub(super) fn rows(view: View<'_>, file: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    walk(view, "", file, &mut rows);
    rows
}

fn walk(view: View<'_>, path: &str, file: &str, rows: &mut Vec<Row>) {
    for field in view.form().fields {
        let key = if path.is_empty() { field.key.to_owned() } else { format!("{path}.{}", field.key) };
        match (&field.shape, view.written(field.key)) {
            (Shape::Table(inner), _) => walk(view.table(field.key, inner), &key, file, rows),
            (shape, Some(entry)) => written(shape, entry, &key, file, rows),
            (_, None) => {
                let value = match field.need {
                    Need::Default(value) => value.to_owned(),
                    Need::Otherwise(without) => format!("({without})"),
                    Need::Required(_) => "(missing)".to_owned(),
                };
                rows.push(Row { key, value, source: Origin::Default });
            }
        }
    }
}

fn written(shape: &Shape, entry: &Entry, key: &str, file: &str, rows: &mut Vec<Row>) {
    match (shape, &entry.value.kind) {
        (Shape::Either(_, table), Kind::Map(_)) => within(&entry.value, table, key, file, rows),
        (Shape::Named { value, .. }, Kind::Map(entries)) => {
            for inner in entries {
                let key = format!("{key}.{}", printable(&inner.key, 100));
                match value {
                    Shape::Table(table) => within(&inner.value, table, &key, file, rows),
                    other => written(other, inner, &key, file, rows),
                }
            }
        }
        _ => rows.push(Row { key: key.to_owned(), value: shown(&entry.value), source: Origin::File(file.to_owned()) }),
    }
}

fn within(node: &Node, table: &'static Table, key: &str, file: &str, rows: &mut Vec<Row>) {
    walk(View::new(node, table), key, file, rows);
}

fn shown(node: &Node) -> String {
    match &node.kind {
        Kind::Text(text) => printable(text, 200),
        Kind::Flag(flag) => flag.to_string(),
        Kind::Whole(number) => number.to_string(),
        Kind::List(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Kind::Null | Kind::Foreign(_) | Kind::Unreadable | Kind::Map(_) => String::new(),
    }
}
