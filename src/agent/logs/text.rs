//! What becomes of a line before it is kept: control characters go, secrets are masked, length is bounded.
//!
//! Guarantees: what comes out is one line of printable text without any of the secrets it was told of.
//! Must not know: files.

/// A line is cut into pieces of this many bytes.
pub const LINE_BYTES: usize = 8 << 10;

/// Values shorter than this are not masked: they would blot out ordinary text.
const SHORTEST_SECRET: usize = 6;

/// Secrets to be masked, longest first.
#[derive(Clone, Default)]
pub struct Masks(Vec<String>);

impl Masks {
    /// Masks for these values: each as a whole, each of its lines, and the password of an address.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut masks: Vec<String> = Vec::new();
        for value in values {
            masks.push(value.trim().to_owned());
            masks.extend(value.lines().map(|line| line.trim().to_owned()));
            if let Ok(address) = url::Url::parse(value)
                && let Some(password) = address.password()
            {
                masks.push(password.to_owned());
                masks.push(percent_decoded(password));
            }
        }
        masks.retain(|mask| mask.len() >= SHORTEST_SECRET);
        masks.sort_by_key(|mask| std::cmp::Reverse(mask.len()));
        masks.dedup();
        Self(masks)
    }

    /// The text with `***` for every secret.
    pub fn apply(&self, mut text: String) -> String {
        for mask in &self.0 {
            if text.contains(mask.as_str()) {
                text = text.replace(mask.as_str(), "***");
            }
        }
        text
    }
}

fn percent_decoded(text: &str) -> String {
    // A form's value is decoded in the same way, but for the plus sign.
    url::form_urlencoded::parse(format!("v={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

/// Cuts a stream into lines.
#[derive(Default)]
pub struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    /// Takes a piece of the stream and gives every line that it completes.
    pub fn push(&mut self, piece: &[u8], mut line: impl FnMut(&[u8])) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            for chunk in text.chunks(LINE_BYTES) {
                if self.rest.len() + chunk.len() > LINE_BYTES {
                    line(&self.rest);
                    self.rest.clear();
                }
                self.rest.extend_from_slice(chunk);
            }
            if ends {
                line(&self.rest);
                self.rest.clear();
            }
        }
    }

    /// Gives what was not ended by a line feed.
    pub fn finish(self, mut line: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            line(&self.rest);
        }
    }
}

/// One line as a terminal would leave it: without escapes, and what a carriage return overwrote is gone.
pub fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let text = text.rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // A control sequence ends with a letter or one of @ [ \ ] ^ _ ` { | } ~.
                Some('[') => while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
                // A title or link ends with a bell or an escape.
                Some(']') => while chars.next().is_some_and(|c| c != '\u{7}' && c != '\u{1b}') {},
                _ => {}
            },
            '\t' => out.push('\t'),
            c if c.is_control() || is_invisible(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// Characters that change how the text around them is shown.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut splitter = Splitter::default();
        for piece in pieces {
            splitter.push(piece, |line| out.push(line.to_vec()));
        }
        splitter.finish(|line| out.push(line.to_vec()));
        out
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(lines(&[b"a", b"b\n\nc", b"d"]), [b"ab".to_vec(), b"".to_vec(), b"cd".to_vec()]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let flood = vec![b'x'; LINE_BYTES * 3 + 5];
        let cut = lines(&[&flood]);
        assert!(cut.iter().all(|line| line.len() <= LINE_BYTES));
        assert_eq!(cut.iter().map(Vec::len).sum::<usize>(), flood.len());
    }

    #[test]
    fn escapes_and_control_characters_go() {
        assert_eq!(plain(b"\x1b[31mred\x1b[0m \x07\x00tab\there\r"), "red tab\there");
        assert_eq!(plain(b"10%\r50%\r100%"), "100%");
        assert_eq!(plain(b"\x1b]0;title\x07text"), "text");
        assert_eq!(plain("a\u{202e}b".as_bytes()), "ab");
        assert_eq!(plain(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn secrets_are_masked_whole_by_line_and_as_password() {
        let masks = Masks::new(["postgres://app:p%40ssw0rd@localhost/db", "first-line\nsecond-line", "abc"]);
        assert_eq!(masks.apply("to postgres://app:p%40ssw0rd@localhost/db".to_owned()), "to ***");
        assert_eq!(masks.apply("p%40ssw0rd or p@ssw0rd".to_owned()), "*** or ***");
        assert_eq!(masks.apply("second-line".to_owned()), "***");
        assert_eq!(masks.apply("abc".to_owned()), "abc");
    }
}
