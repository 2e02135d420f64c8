//! What is wrong with a file: every finding with its place, what is wrong there, and how to put it right.
//!
//! Guarantees: places always lie inside the text; text that must not be shown (a secret that was written
//! in place of its reference, control characters) never leaves this module.
//! Must not know: what any key means.

use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

/// A place in a file, in bytes.
pub type Span = Range<usize>;

/// More findings than this are counted, not shown: a hostile file could hold tens of thousands.
const MOST_SHOWN: usize = 20;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub span: Span,
    /// What is wrong, as a sentence without its full stop.
    pub message: String,
    /// A few words beside the caret.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A finding whose text may quote the file: control characters are taken out and long quotes cut.
    pub fn new(span: Span, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { span, message: printable(&message.into(), 300), label: printable(&label.into(), 120), help: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(printable(&help.into(), 400));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = (!self.label.is_empty()).then(|| self.label.clone());
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(label, self.span.clone()))))
    }
}

/// Findings while they are being collected.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<Problem>,
    masked: Vec<Span>,
}

impl Problems {
    /// Adds a finding.
    pub fn push(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// Keeps a part of the text from ever being shown.
    pub fn mask(&mut self, span: Span) {
        self.masked.push(span);
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The findings, ready to be shown, if there are any.
    pub fn into_errors(mut self, name: &str, text: &str) -> Result<(), ConfigErrors> {
        if self.found.is_empty() {
            return Ok(());
        }
        for problem in &mut self.found {
            problem.span = inside(&problem.span, text);
        }
        self.found.sort_by(|a, b| (a.span.start, a.span.end, &a.message).cmp(&(b.span.start, b.span.end, &b.message)));
        self.found.dedup();
        let hidden = self.found.len().saturating_sub(MOST_SHOWN);
        self.found.truncate(MOST_SHOWN);
        let shown = harmless(text, &self.masked);
        Err(ConfigErrors { source: NamedSource::new(printable(name, 200), shown), problems: self.found, hidden })
    }
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone)]
pub struct ConfigErrors {
    pub(super) source: NamedSource<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) hidden: usize,
}

impl ConfigErrors {
    /// A file that could not be read at all.
    pub(super) fn unreadable(name: &str, message: String, help: &str) -> Self {
        Self {
            source: NamedSource::new(printable(name, 200), String::new()),
            problems: vec![Problem::new(0..0, message, "").help(help)],
            hidden: 0,
        }
    }

    /// The findings, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many there are, those left out of [`ConfigErrors::problems`] included.
    pub fn count(&self) -> usize {
        self.problems.len() + self.hidden
    }

    /// The file's name as it is shown.
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// Line and column of a finding, both from 1, the column in characters.
    pub fn position(&self, problem: &Problem) -> (usize, usize) {
        let text = self.source.inner();
        let before = text.get(..problem.span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = if self.count() == 1 { "error" } else { "errors" };
        write!(f, "{} has {} {errors}", self.file(), self.count())
    }
}

impl std::error::Error for ConfigErrors {}

impl Diagnostic for ConfigErrors {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// Whether a character could disturb a terminal or reorder the text around it.
pub(super) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text on one line, without characters that could disturb a terminal, cut to a length.
pub(super) fn printable(text: &str, longest: usize) -> String {
    let mut shown: String =
        text.chars().take(longest).map(|c| if is_unprintable(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}

/// The text with everything that must not be shown replaced byte for byte, so that places stay right.
fn harmless(text: &str, masked: &[Span]) -> String {
    let mut shown = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let secret = masked.iter().any(|span| span.contains(&at)) && c != '\n';
        if secret {
            shown.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else if is_unprintable(c) && !matches!(c, '\n' | '\t') {
            shown.extend(std::iter::repeat_n(if c == '\r' { ' ' } else { '?' }, c.len_utf8()));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The nearest place that lies inside the text, on character boundaries.
fn inside(span: &Span, text: &str) -> Span {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_outside_the_text_or_within_a_character_are_moved_to_the_nearest() {
        let text = "aé\nb";
        for (given, want) in
            [(0..1, 0..1), (2..3, 1..3), (4..99, 4..5), (99..100, 5..5), (Span { start: 3, end: 1 }, 3..3)]
        {
            let mut problems = Problems::default();
            problems.push(Problem::new(given.clone(), "x", ""));
            let errors = problems.into_errors("f", text).unwrap_err();
            assert_eq!(errors.problems()[0].span, want, "{given:?}");
        }
    }

    #[test]
    fn what_is_hidden_keeps_its_length() {
        let secret = 4..13;
        let shown = harmless("k = \"s\u{e9}cret\"\r\n\u{1b}\u{202e}x", std::slice::from_ref(&secret));
        assert_eq!(shown, "k = ********* \n????x");
    }
}
