//! How findings are shown: plain text for comments, colours for terminals, JSON for programs.

use miette::{GraphicalReportHandler, GraphicalTheme};
use serde_json::{Value, json};

use super::problem::{ConfigErrors, Problem};

/// The widest part of a source line that plain text shows.
const WIDTH: usize = 100;

/// For whom findings are rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderStyle {
    /// Comments, logs and files: ASCII drawing, no colours.
    Plain,
    /// Terminals, with colours; whoever prints takes them out where they are not wanted.
    Terminal,
}

impl ConfigErrors {
    /// All findings as text.
    pub fn render(&self, style: RenderStyle) -> String {
        match style {
            RenderStyle::Plain => self.plain(),
            RenderStyle::Terminal => self.terminal(),
        }
    }

    /// All findings as data: `{file, count, errors: [{line, column, message, label, help}]}`.
    pub fn to_json(&self) -> Value {
        let errors: Vec<Value> = self
            .problems
            .iter()
            .map(|problem| {
                let (line, column) = self.position(problem);
                json!({
                    "line": line,
                    "column": column,
                    "message": problem.message,
                    "label": problem.label,
                    "help": problem.help,
                })
            })
            .collect();
        json!({ "file": self.file(), "count": self.count(), "errors": errors })
    }

    fn plain(&self) -> String {
        let mut blocks: Vec<String> = self.problems.iter().map(|problem| self.plain_one(problem)).collect();
        blocks.extend(self.more());
        blocks.join("\n")
    }

    fn plain_one(&self, problem: &Problem) -> String {
        let text = self.source.inner();
        let (line, column) = self.position(problem);
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        let mut lines = vec![format!("error: {}", problem.message)];
        if text.is_empty() {
            lines.push(format!("{gutter}--> {}", self.file()));
        } else {
            let shown = text.split('\n').nth(line - 1).unwrap_or_default();
            let here = shown.chars().count().saturating_sub(column - 1);
            let marked = text[problem.span.clone()].split('\n').next().unwrap_or_default().chars().count();
            let (window, offset) = window(shown, column - 1);
            let carets = "^".repeat(marked.min(here).clamp(1, WIDTH));
            let pointer = format!("{gutter} | {}{carets} {}", " ".repeat(offset), problem.label);
            lines.push(format!("{gutter}--> {}:{line}:{column}", self.file()));
            lines.push(format!("{gutter} |"));
            lines.push(format!("{number} | {window}"));
            lines.push(pointer.trim_end().to_owned());
        }
        lines.extend(problem.help.iter().map(|help| format!("{gutter} = help: {help}")));
        lines.push(String::new());
        lines.join("\n")
    }

    fn terminal(&self) -> String {
        // No lines around the finding: they could hold what must not be shown.
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode())
            .with_links(false)
            .with_width(100)
            .with_context_lines(0);
        let mut out = String::new();
        // Writing to a `String` cannot fail; should the drawing refuse a place, plain text still says it all.
        if handler.render_report(&mut out, self).is_err() {
            return self.plain();
        }
        out.extend(self.more().map(|more| format!("\n{more}")));
        out
    }

    fn more(&self) -> Option<String> {
        (self.hidden > 0).then(|| format!("… and {} more errors\n", self.hidden))
    }
}

/// The part of a line around a column, and where that column is in it. Tabs become one space.
fn window(line: &str, column: usize) -> (String, usize) {
    let from = if column > WIDTH * 3 / 4 { column - WIDTH / 2 } else { 0 };
    let mut shown: String = line.chars().skip(from).take(WIDTH).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let mut offset = column - from;
    if line.chars().nth(from + WIDTH).is_some() {
        shown.push('…');
    }
    if from > 0 {
        shown.insert(0, '…');
        offset += 1;
    }
    (shown.trim_end().to_owned(), offset)
}
