//! Rust source as tokens with line numbers: comments dropped, the insides of strings kept out of the way.
//!
//! Knows just enough of the language that a rule cannot be fooled by a comment, a string, a lifetime or a
//! line break. It does not expand macros.

/// A token and the line that it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier or a keyword.
    Word(String),
    /// A string, character or number; only that there is one matters.
    Literal,
    /// One character of punctuation; `::` is one token, written `':'`.
    Sign(char),
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Literal | Kind::Sign(_) => None,
        }
    }

    pub(crate) fn is(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Word(word) => word == text,
            Kind::Sign(':') => text == "::",
            Kind::Sign(sign) => text.len() == 1 && text.starts_with(*sign),
            Kind::Literal => false,
        }
    }
}

/// Whether the tokens from `at` on read like that.
pub(crate) fn reads(tokens: &[Token], at: usize, like: &[&str]) -> bool {
    like.iter().enumerate().all(|(offset, text)| tokens.get(at + offset).is_some_and(|token| token.is(text)))
}

/// A path that the code names from the crate's root on, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(&c) = chars.get(at) {
        let start = at;
        let kind = match c {
            _ if c.is_whitespace() => {
                at += 1;
                None
            }
            '/' if chars.get(at + 1) == Some(&'/') => {
                at = line_end(&chars, at);
                None
            }
            '/' if chars.get(at + 1) == Some(&'*') => {
                at = comment_end(&chars, at);
                None
            }
            '"' => {
                at = string_end(&chars, at);
                Some(Kind::Literal)
            }
            '\'' => {
                let (end, kind) = quote(&chars, at);
                at = end;
                kind
            }
            ':' if chars.get(at + 1) == Some(&':') => {
                at += 2;
                Some(Kind::Sign(':'))
            }
            // A single colon says nothing that a rule asks for.
            ':' => {
                at += 1;
                Some(Kind::Literal)
            }
            _ if c.is_ascii_digit() => {
                at = word_end(&chars, at);
                Some(Kind::Literal)
            }
            _ if is_word(c) => {
                at = word_end(&chars, at);
                match prefixed_string_end(&chars, start, at) {
                    Some(end) => {
                        at = end;
                        Some(Kind::Literal)
                    }
                    None => Some(Kind::Word(chars[start..at].iter().collect())),
                }
            }
            sign => {
                at += 1;
                Some(Kind::Sign(sign))
            }
        };
        found.extend(kind.map(|kind| Token { line, kind }));
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_end(chars: &[char], mut at: usize) -> usize {
    while chars.get(at).is_some_and(|c| is_word(*c)) {
        at += 1;
    }
    at
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length)
}

/// Block comments nest.
fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of `r"…"`, `r#"…"#`, `b"…"`, `c"…"` and the like, if the word is such a prefix.
fn prefixed_string_end(chars: &[char], start: usize, end: usize) -> Option<usize> {
    let prefix: String = chars[start..end].iter().collect();
    match (prefix.as_str(), chars.get(end)) {
        ("b" | "c", Some('"')) => Some(string_end(chars, end)),
        ("b", Some('\'')) => Some(quote(chars, end).0),
        ("r" | "br" | "cr", Some('"' | '#')) => {
            let hashes = chars[end..].iter().take_while(|c| **c == '#').count();
            let mut at = end + hashes + 1;
            // `r#type` is an identifier.
            if chars.get(at - 1) != Some(&'"') {
                return None;
            }
            while at < chars.len() {
                if chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
                    return Some(at + 1 + hashes);
                }
                at += 1;
            }
            Some(at)
        }
        _ => None,
    }
}

/// A character literal, or nothing of note for a lifetime.
fn quote(chars: &[char], at: usize) -> (usize, Option<Kind>) {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let close = chars[(at + 3).min(chars.len())..].iter().position(|c| *c == '\'');
            (close.map_or(chars.len(), |length| at + 4 + length), Some(Kind::Literal))
        }
        (Some(_), Some('\'')) => (at + 3, Some(Kind::Literal)),
        _ => (word_end(chars, at + 1), None),
    }
}

/// The paths that a file of the crate names by `crate::…` or, outside its own module, by `super::…`; the
/// braces of `use` are written out. `module` is the file's own path, empty for the crate's root.
pub(crate) fn named(tokens: &[Token], module: &[String]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut here: Vec<String> = module.to_vec();
    // Depth of the braces that close an inline module.
    let mut inline = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        if token.is("{") {
            depth += 1;
        } else if token.is("}") {
            depth = depth.saturating_sub(1);
            if inline.last() == Some(&depth) {
                inline.pop();
                here.pop();
            }
        } else if token.is("mod") && tokens.get(at + 2).is_some_and(|next| next.is("{")) {
            here.extend(tokens[at + 1].word().map(str::to_owned));
            inline.push(depth);
        }
        let begins = at == 0 || !tokens[at - 1].is("::");
        let root = match token.word() {
            Some("crate") if begins => Some(Vec::new()),
            Some("super") if begins => Some(here[..here.len().saturating_sub(1)].to_vec()),
            _ => None,
        };
        if let Some(root) = root
            && tokens.get(at + 1).is_some_and(|next| next.is("::"))
        {
            spell_out(tokens, at + 2, root, &mut found);
        }
        at += 1;
    }
    found
}

/// Follows a path from `at` on, into each branch of its braces; the position after it.
fn spell_out(tokens: &[Token], mut at: usize, mut path: Vec<String>, found: &mut Vec<Named>) -> usize {
    loop {
        let Some(token) = tokens.get(at) else { return at };
        if token.is("{") {
            at += 1;
            while let Some(token) = tokens.get(at) {
                match () {
                    () if token.is("}") => return at + 1,
                    () if token.is(",") => at += 1,
                    () => at = spell_out(tokens, at, path.clone(), found),
                }
            }
            return at;
        }
        match token.word() {
            Some("super") => drop(path.pop()),
            Some("self") => {}
            Some(word) => path.push(word.to_owned()),
            // `*`, or something that is no path.
            None => (),
        }
        at += 1;
        if token.word().is_some() && tokens.get(at).is_some_and(|next| next.is("::")) {
            at += 1;
            continue;
        }
        found.push(Named { line: token.line, path });
        if reads(tokens, at, &["as"]) {
            at += 2;
        }
        return at;
    }
}
