//! Texts of a compose file: variables within them, and commands written as one text.

use crate::domain::id::CommitSha;

/// The only variable that is known before anything runs.
const COMMIT: &str = "KAGERO_COMMIT";

/// Why a text cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextError {
    /// It asks for a variable.
    Variable,
    /// A quotation mark has no end.
    OpenQuote,
}

/// A text as compose means it: `$$` is a dollar sign, `${KAGERO_COMMIT}` the commit, every other variable an error.
pub(super) fn filled_in(text: &str, commit: &CommitSha) -> Result<String, TextError> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(further) = after.strip_prefix('$') {
            filled.push('$');
            rest = further;
        } else if let Some(further) = after.strip_prefix(&format!("{{{COMMIT}}}")) {
            filled.push_str(commit.as_str());
            rest = further;
        } else if after.starts_with(|c: char| c == '{' || c == '_' || c.is_ascii_alphabetic()) {
            return Err(TextError::Variable);
        } else {
            filled.push('$');
            rest = after;
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// A command's words, with the quotation marks and backslashes of a shell and nothing else of it.
pub(super) fn split(text: &str) -> Result<Vec<String>, TextError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(letters.next().ok_or(TextError::OpenQuote)?),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or(TextError::OpenQuote)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or(TextError::OpenQuote)? {
                        '"' => break,
                        '\\' => match letters.next().ok_or(TextError::OpenQuote)? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_a_shell_would_make_of_them() {
        for (text, wanted) in [
            ("a  b\nc", vec!["a", "b", "c"]),
            ("a 'b c' \"d e\"f", vec!["a", "b c", "d ef"]),
            (r#"'' "" \ x"#, vec!["", "", " x"]),
            (r#""a\"b\n" 'c\d'"#, vec!["a\"b\\n", "c\\d"]),
            ("", vec![]),
        ] {
            assert_eq!(split(text).unwrap(), wanted, "{text}");
        }
        for text in ["'a", "\"a", "a\\"] {
            assert_eq!(split(text), Err(TextError::OpenQuote), "{text}");
        }
    }

    #[test]
    fn only_the_commit_is_filled_in() {
        let commit = CommitSha::parse("ab".repeat(20)).unwrap();
        assert_eq!(filled_in("a$$b${KAGERO_COMMIT}$ 5$", &commit).unwrap(), format!("a$b{commit}$ 5$"));
        for text in ["$HOME", "${TAG:-x}", "${KAGERO_COMMIT:-x}", "$_"] {
            assert_eq!(filled_in(text, &commit), Err(TextError::Variable), "{text}");
        }
    }
}
