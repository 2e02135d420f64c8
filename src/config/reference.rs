//! The reference part of `docs/configuration.md`, made from the tables that the reader uses.

use super::repo::REPO;
use super::server::SERVER;
use super::shape::{Field, Need, Shape, Table, show_lasting};
use super::view::each_key;

/// The keys of `kagero.toml` as a Markdown table.
pub fn server() -> String {
    markdown(&SERVER)
}

/// The keys of `.kagero.yml` as a Markdown table.
pub fn repo() -> String {
    markdown(&REPO)
}

fn markdown(table: &'static Table) -> String {
    let mut lines = vec!["| Key | Takes | Without it | Meaning |".to_owned(), "|---|---|---|---|".to_owned()];
    each_key(table, &mut |path, field| {
        if !matches!(field.shape, Shape::Table(_)) {
            let cells = [format!("`{path}`"), takes(&field.shape), without(field), field.about.to_owned()];
            lines.push(format!("| {} |", cells.map(|cell| escaped(&cell)).join(" | ")));
        }
    });
    lines.push(String::new());
    lines.join("\n")
}

/// Text for a cell, where `<path>` and `*` would be markup outside of code.
fn escaped(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(at, part)| match at % 2 {
        0 => part.replace('<', "&lt;").replace('*', "\\*"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`").replace('|', "\\|")
}

fn takes(shape: &Shape) -> String {
    match shape {
        Shape::Table(_) => "a table".to_owned(),
        Shape::Named { value: Shape::Table(_), .. } => "tables by name".to_owned(),
        Shape::Named { .. } => "texts by name".to_owned(),
        Shape::List { item, least: 0, .. } => format!("a list, each of them {}", item.expected),
        Shape::List { item, .. } => format!("a list, not empty, each of them {}", item.expected),
        Shape::Text(rule) => rule.expected.to_owned(),
        Shape::Choice { words, .. } => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Shape::Flag => "`true` or `false`".to_owned(),
        Shape::Whole { least: 1, most: 1 } => "`1`".to_owned(),
        Shape::Whole { least, most: i64::MAX } => format!("a whole number from {least}"),
        Shape::Whole { least, most } => format!("a whole number from {least} to {most}"),
        Shape::Lasting { least, most } => format!("a time from {} to {}", show_lasting(*least), show_lasting(*most)),
        Shape::Either(scalar, _) => format!("{}, or a table", takes(scalar)),
    }
}

fn without(field: &Field) -> String {
    match field.need {
        Need::Required(_) => "required".to_owned(),
        Need::Default(value) => format!("`{value}`"),
        Need::Otherwise(text) => text.to_owned(),
    }
}
