//! Holds what was written against the form: unknown and missing keys, wrong types, values out of range.
//!
//! Guarantees: everything is reported, not the first finding only.

use super::problem::{Problem, Problems, is_unprintable, printable};
use super::secret;
use super::shape::{Exposure, Field, Lines, Need, Shape, Table, TextRule, parse_lasting, show_lasting};
use super::tree::{Entry, Extent, Kind, Language, Node};

/// Holds a file against its table.
pub fn check(node: &Node, table: &'static Table, language: Language, extent: Extent, problems: &mut Problems) {
    Check { root: table, language, extent, problems }.table(node, table, "");
}

struct Check<'p> {
    root: &'static Table,
    language: Language,
    extent: Extent,
    problems: &'p mut Problems,
}

impl Check<'_> {
    fn table(&mut self, node: &Node, table: &'static Table, path: &str) {
        let Kind::Map(entries) = &node.kind else {
            return self.wrong_type(node, path, "a table of keys");
        };
        for entry in entries {
            match table.field(&entry.key) {
                Some(field) => self.shape(&entry.value, &field.shape, &join(path, &entry.key)),
                None => self.unknown(entry, table, path),
            }
        }
        if self.extent == Extent::Whole {
            for field in table.fields {
                if let Need::Required(example) = field.need
                    && !entries.iter().any(|entry| entry.key == field.key)
                {
                    self.missing(node, path, field, example);
                }
            }
        }
    }

    fn shape(&mut self, node: &Node, shape: &'static Shape, path: &str) {
        match (shape, &node.kind) {
            (_, Kind::Unreadable) | (Shape::Flag, Kind::Flag(_)) => {}
            (Shape::Table(table), _) | (Shape::Either(_, table), Kind::Map(_)) => self.table(node, table, path),
            (Shape::Either(scalar, _), _) => self.shape(node, scalar, path),
            (Shape::Named { name, value, most }, Kind::Map(entries)) => {
                self.count(node, path, entries.len(), 0, *most);
                for entry in entries {
                    self.name(entry, name, path);
                    self.shape(&entry.value, value, &join(path, &entry.key));
                }
            }
            (Shape::List { item, least, most }, Kind::List(items)) => {
                self.count(node, path, items.len(), *least, *most);
                for node in items {
                    match &node.kind {
                        Kind::Text(text) => self.text(node, text, item, path),
                        Kind::Unreadable => {}
                        _ => {
                            if item.exposure == Exposure::Hidden {
                                self.hide(node);
                            }
                            self.wrong_type(node, path, item.expected);
                        }
                    }
                }
            }
            (Shape::Text(rule), Kind::Text(text)) => self.text(node, text, rule, path),
            (Shape::Choice { words, later }, Kind::Text(text)) => self.choice(node, text, words, later, path),
            (Shape::Whole { least, most }, Kind::Whole(number)) => {
                if number < least || number > most {
                    let message = format!("`{path}` is {number}, but has to be {}", range(*least, *most));
                    self.problems.push(Problem::new(node.span.clone(), message, "out of range"));
                }
            }
            (Shape::Lasting { least, most }, Kind::Text(text)) => match parse_lasting(text) {
                Some(lasting) if lasting < *least || lasting > *most => {
                    let range = format!("{} to {}", show_lasting(*least), show_lasting(*most));
                    let message = format!("`{path}` is {text}, but has to be from {range}");
                    self.problems.push(Problem::new(node.span.clone(), message, "out of range"));
                }
                Some(_) => {}
                None => self.refused(node, text, path, "a length of time such as 90s, 15m, 2h or 14d", Exposure::Open),
            },
            (shape, _) => {
                if holds_secrets(shape) {
                    self.hide(node);
                }
                let expected = expected(shape);
                self.wrong_type(node, path, &expected);
            }
        }
    }

    fn text(&mut self, node: &Node, text: &str, rule: &TextRule, path: &str) {
        let control = |c: char| is_unprintable(c) && !(rule.lines == Lines::Many && matches!(c, '\n' | '\t'));
        if text.chars().any(control) {
            if rule.exposure == Exposure::Hidden {
                self.problems.mask(node.span.clone());
            }
            let message = format!("`{path}` contains a control or invisible character");
            let problem = Problem::new(node.span.clone(), message, "").help("retype the value");
            self.problems.push(problem);
        } else if text.chars().count() > rule.longest {
            let message = format!("`{path}` is longer than {} characters", rule.longest);
            if rule.exposure == Exposure::Hidden {
                self.problems.mask(node.span.clone());
            }
            self.problems.push(Problem::new(node.span.clone(), message, ""));
        } else if !(rule.accept)(text) {
            self.refused(node, text, path, rule.expected, rule.exposure);
        }
    }

    fn refused(&mut self, node: &Node, text: &str, path: &str, expected: &str, exposure: Exposure) {
        let message = match exposure {
            Exposure::Open => format!("`{path}` cannot be `{}`", printable(text, 60)),
            Exposure::Hidden => {
                self.problems.mask(node.span.clone());
                format!("`{path}` is not written as it has to be")
            }
        };
        let problem = Problem::new(node.span.clone(), message, "not accepted").help(format!("expected {expected}"));
        self.problems.push(problem);
    }

    fn choice(&mut self, node: &Node, text: &str, words: &[&str], later: &[&str], path: &str) {
        if words.contains(&text) {
            return;
        }
        let options = one_of(words);
        let problem = if later.contains(&text) {
            Problem::new(node.span.clone(), format!("`{path}: {text}` is not available in this version yet"), "not yet")
                .help(format!("use {options}"))
        } else {
            let help = match nearest(text, words.iter().copied()) {
                Some(word) => format!("did you mean `{word}`? Possible: {options}"),
                None => format!("expected {options}"),
            };
            let message = format!("`{path}` cannot be `{}`", printable(text, 60));
            Problem::new(node.span.clone(), message, "not accepted").help(help)
        };
        self.problems.push(problem);
    }

    fn name(&mut self, entry: &Entry, rule: &TextRule, path: &str) {
        let shown = printable(&entry.key, 60);
        if entry.key.chars().any(is_unprintable)
            || entry.key.chars().count() > rule.longest
            || !(rule.accept)(&entry.key)
        {
            let message = format!("`{shown}` cannot be a name in `{path}`");
            let problem = Problem::new(entry.key_span.clone(), message, "not accepted");
            self.problems.push(problem.help(format!("expected {}", rule.expected)));
        }
    }

    fn count(&mut self, node: &Node, path: &str, count: usize, least: usize, most: usize) {
        if count < least {
            let message = format!("`{path}` is empty");
            let problem = Problem::new(node.span.clone(), message, format!("expected at least {least}"));
            self.problems.push(problem.help("an empty list never means everything: name what is meant"));
        } else if count > most {
            let message = format!("`{path}` has {count} entries, more than the {most} allowed");
            self.problems.push(Problem::new(node.span.clone(), message, format!("expected at most {most}")));
        }
    }

    fn wrong_type(&mut self, node: &Node, path: &str, expected: &str) {
        if matches!(node.kind, Kind::Unreadable) {
            return;
        }
        let what = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
        let label = format!("this is {}", node.kind.name());
        let problem = Problem::new(node.span.clone(), format!("{what} has to be {expected}"), label);
        self.problems.push(match &node.kind {
            Kind::Null => problem.help("give it a value, or remove the key"),
            Kind::Flag(_) | Kind::Whole(_) | Kind::Foreign(_) => match self.language {
                Language::Yaml => problem.help("if a text is meant, put it in quotes"),
                Language::Toml => problem,
            },
            Kind::Text(_) if expected.starts_with("a list") => problem.help("put it in brackets: [ … ]"),
            Kind::Text(text) if expected == "true or false" && matches!(text.as_str(), "yes" | "on") => {
                problem.help("write true")
            }
            Kind::Text(text) if expected == "true or false" && matches!(text.as_str(), "no" | "off") => {
                problem.help("write false")
            }
            Kind::Text(_) if expected == "true or false" || expected.starts_with("a whole number") => {
                problem.help("write it without quotes")
            }
            _ => problem,
        });
    }

    /// Keeps a value from being shown, whatever it is made of.
    fn hide(&mut self, node: &Node) {
        match &node.kind {
            Kind::Map(entries) => {
                // A table under a [header] has the header's place, which may be shown.
                if entries.iter().any(|entry| node.span.contains(&entry.key_span.start)) {
                    self.problems.mask(node.span.clone());
                }
                for entry in entries {
                    self.hide(&entry.value);
                }
            }
            Kind::List(items) => {
                for item in items {
                    self.hide(item);
                }
            }
            _ => self.problems.mask(node.span.clone()),
        }
    }

    fn unknown(&mut self, entry: &Entry, table: &'static Table, path: &str) {
        // A slip in the key of a secret must not put the secret on the screen.
        if self.language == Language::Toml && secret::is_likely_in(&entry.key) {
            self.hide(&entry.value);
        }
        let shown = printable(&entry.key, 60);
        let whole = join(path, &shown);
        let problem = if table.later.contains(&entry.key.as_str()) {
            Problem::new(entry.key_span.clone(), format!("`{whole}` is not supported yet in this version"), "not yet")
                .help("remove it")
        } else {
            let problem = Problem::new(entry.key_span.clone(), format!("unknown key `{whole}`"), "unknown");
            let elsewhere = find(self.root, &entry.key, "").filter(|at| *at != whole);
            let known = table.fields.iter().map(|field| field.key);
            problem.help(match (nearest(&entry.key, known), elsewhere) {
                (Some(key), _) => format!("did you mean `{}`?", join(path, key)),
                (None, Some(at)) if !at.contains('.') && self.language == Language::Toml => {
                    format!("`{at}` belongs to the top of the file, before the first [table]")
                }
                (None, Some(at)) => format!("did you mean `{at}`?"),
                (None, None) => {
                    let keys: Vec<&str> = table.fields.iter().map(|field| field.key).collect();
                    format!("known here: {}", keys.join(", "))
                }
            })
        };
        self.problems.push(problem);
    }

    fn missing(&mut self, node: &Node, path: &str, field: &Field, example: &str) {
        let whole = join(path, field.key);
        // A table that spans many lines is pointed at by its first character.
        let at = node.span.start..node.span.start;
        let problem = Problem::new(at, format!("`{whole}` is missing"), "");
        self.problems.push(problem.help(format!("{} For example: {example}", field.about)));
    }
}

fn holds_secrets(shape: &Shape) -> bool {
    match shape {
        Shape::Text(rule) | Shape::List { item: rule, .. } => rule.exposure == Exposure::Hidden,
        Shape::Named { value, .. } => holds_secrets(value),
        _ => false,
    }
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Table(_) | Shape::Named { .. } => "a table of keys".to_owned(),
        Shape::List { item, .. } => format!("a list of texts, each of them {}", item.expected),
        Shape::Text(rule) => rule.expected.to_owned(),
        Shape::Choice { words, .. } => one_of(words),
        Shape::Flag => "true or false".to_owned(),
        Shape::Whole { least, most } => format!("a whole number, {}", range(*least, *most)),
        Shape::Lasting { .. } => "a length of time such as 90s, 15m, 2h or 14d".to_owned(),
        Shape::Either(scalar, _) => format!("{} or a table of keys", expected(scalar)),
    }
}

fn range(least: i64, most: i64) -> String {
    match most {
        i64::MAX => format!("at least {least}"),
        most if most == least => least.to_string(),
        most => format!("from {least} to {most}"),
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Where a key stands that was written in the wrong table.
fn find(table: &Table, key: &str, path: &str) -> Option<String> {
    let here = table.field(key).map(|field| join(path, field.key));
    here.or_else(|| {
        table.fields.iter().find_map(|field| match field.shape {
            Shape::Table(inner) => find(inner, key, &join(path, field.key)),
            _ => None,
        })
    })
}

/// The candidate that differs least, if it differs little.
fn nearest<'w>(given: &str, candidates: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let given: Vec<char> = given.chars().take(64).flat_map(char::to_lowercase).collect();
    candidates
        .map(|word| (distance(&given, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4 && *distance < word.len())
        .min()
        .map(|(_, word)| word)
}

/// Insertions, deletions, replacements and exchanges of neighbours between two words.
fn distance(given: &[char], word: &str) -> usize {
    let word: Vec<char> = word.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=word.len()).collect();
    for (i, a) in given.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in word.iter().enumerate() {
            let mut cost = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == word[j - 1] && given[i - 1] == *b {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(given.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_slips_are_recognised_and_strange_words_are_not() {
        let keys = ["services", "build", "env", "lifetime"];
        for (given, want) in [
            ("service", Some("services")),
            ("servcies", Some("services")),
            ("Build", Some("build")),
            ("bulid", Some("build")),
            ("life_time", Some("lifetime")),
            ("x", None),
            ("database", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, keys.iter().copied()), want, "{given}");
        }
    }
}
