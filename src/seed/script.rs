//! Splits SQL text for SQLite into its statements, with the line that each begins at.
//!
//! Guarantees: quotes, comments and the bodies of triggers are not split.
//! Must not know: what the statements do.

/// A statement of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Where it begins, from 1.
    pub line: usize,
    /// Without what is around it.
    pub text: &'a str,
}

/// The statements, in order.
pub fn statements(script: &str) -> Vec<Statement<'_>> {
    let mut all = Vec::new();
    let mut rest = 0;
    while rest < script.len() {
        let end = rest + end_of_first(&script[rest..]);
        let text = script[rest..end].trim();
        let code = skip_space(text);
        if !text[code..].trim_matches(';').trim().is_empty() {
            let start = rest + script[rest..end].len() - script[rest..end].trim_start().len() + code;
            let line = script[..start].matches('\n').count() + 1;
            all.push(Statement { line, text: &text[code..] });
        }
        rest = end;
    }
    all
}

/// Where the first statement ends, its semicolon included.
fn end_of_first(text: &str) -> usize {
    let mut words: Vec<String> = Vec::new();
    let mut at = 0;
    let mut after_semicolon = false;
    let mut closes_trigger = false;
    while at < text.len() {
        let token = token_length(&text[at..]);
        let part = &text[at..at + token];
        at += token;
        if is_space(part) {
            continue;
        }
        if part == ";" {
            if !is_trigger(&words) || closes_trigger {
                return at;
            }
            after_semicolon = true;
            continue;
        }
        closes_trigger = after_semicolon && part.eq_ignore_ascii_case("end");
        after_semicolon = false;
        if words.len() < 3 {
            words.push(part.to_ascii_lowercase());
        }
    }
    text.len()
}

fn is_trigger(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    matches!(words[..], ["create", "trigger", ..] | ["create", "temp" | "temporary", "trigger"])
}

/// White space and comments.
fn is_space(token: &str) -> bool {
    token.starts_with(char::is_whitespace) || token.starts_with("--") || token.starts_with("/*")
}

/// How much of the text is white space and comments.
fn skip_space(text: &str) -> usize {
    let mut at = 0;
    while at < text.len() {
        let token = token_length(&text[at..]);
        if !is_space(&text[at..at + token]) {
            break;
        }
        at += token;
    }
    at
}

/// The length of the first token: white space, a comment, something quoted, a word or a character.
fn token_length(text: &str) -> usize {
    let until = |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |found| from + found + end.len());
    let Some(first) = text.chars().next() else { return 0 };
    match first {
        '-' if text.starts_with("--") => until("\n", 2),
        '/' if text.starts_with("/*") => until("*/", 2),
        // A doubled quote is two tokens in a row: as good for finding semicolons.
        '\'' => until("'", 1),
        '"' => until("\"", 1),
        '`' => until("`", 1),
        '[' => until("]", 1),
        c if c.is_whitespace() => text.find(|c: char| !c.is_whitespace()).unwrap_or(text.len()),
        c if c.is_alphanumeric() || c == '_' => {
            text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
        }
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, want: &[(usize, &str)]) {
        let found: Vec<(usize, &str)> = statements(script).into_iter().map(|s| (s.line, s.text)).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn semicolons_in_quotes_and_comments_do_not_split() {
        check(
            "SELECT 'a;b', \"c;d\"; -- e;\nSELECT [f;g], 'h'';i';",
            &[(1, "SELECT 'a;b', \"c;d\";"), (2, "SELECT [f;g], 'h'';i';")],
        );
        check("/* ; */\n\n;;SELECT 1", &[(3, "SELECT 1")]);
        check(" \n-- nothing\n", &[]);
    }

    #[test]
    fn triggers_stay_whole() {
        let trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n UPDATE a SET b = 1; DELETE FROM c;\nEND;";
        check(
            &format!("CREATE TABLE a (b);\n{trigger}\nSELECT 1;"),
            &[(1, "CREATE TABLE a (b);"), (2, trigger), (5, "SELECT 1;")],
        );
    }

    #[test]
    fn what_is_never_closed_ends_with_the_text() {
        check("SELECT 'a", &[(1, "SELECT 'a")]);
        check("SELECT 'ä", &[(1, "SELECT 'ä")]);
    }
}
