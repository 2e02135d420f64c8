//! The form of a file as data: which keys there are, what they take, what they default to.
//!
//! One table per file drives everything that must agree: which keys are accepted ([`super::check`]), what
//! is read ([`super::view`]), the JSON Schema, the reference in the documentation and `config explain`.

use std::time::Duration;

/// What a key takes.
#[derive(Debug)]
pub enum Shape {
    /// A table with known keys.
    Table(&'static Table),
    /// A table whose keys are names given by the author.
    Named {
        /// What a name may be.
        name: &'static TextRule,
        /// What every name takes.
        value: &'static Shape,
        /// At most that many.
        most: usize,
    },
    /// A list of texts.
    List {
        /// What an item may be.
        item: &'static TextRule,
        /// At least that many.
        least: usize,
        /// At most that many.
        most: usize,
    },
    /// A text.
    Text(&'static TextRule),
    /// One of some words.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// Words that have a meaning in the design but not in this version.
        later: &'static [&'static str],
    },
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Whole {
        /// The smallest.
        least: i64,
        /// The largest.
        most: i64,
    },
    /// A length of time such as `90s` or `14d`.
    Lasting {
        /// The shortest.
        least: Duration,
        /// The longest.
        most: Duration,
    },
    /// A scalar, or the table that says more.
    Either(&'static Shape, &'static Table),
}

/// A table with known keys.
#[derive(Debug)]
pub struct Table {
    /// Its keys, in the order in which they are explained.
    pub fields: &'static [Field],
    /// Keys that have a meaning in the design but not in this version. Accepting them in silence would
    /// promise what nothing keeps.
    pub later: &'static [&'static str],
}

/// A key.
#[derive(Debug)]
pub struct Field {
    /// The key.
    pub key: &'static str,
    /// What it takes.
    pub shape: Shape,
    /// Whether it has to be there.
    pub need: Need,
    /// One sentence for the documentation.
    pub about: &'static str,
}

/// Whether a key has to be there.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// It has to; the text is an example.
    Required(&'static str),
    /// Without it, this value counts, as if it had been written.
    Default(&'static str),
    /// Without it, this is what happens.
    Otherwise(&'static str),
}

/// What a text may be.
#[derive(Debug)]
pub struct TextRule {
    /// For people: `expected …`.
    pub expected: &'static str,
    /// The same for the JSON Schema, as far as a pattern can say it.
    pub pattern: Option<&'static str>,
    /// The text itself, or why it is refused.
    pub accept: fn(&str) -> bool,
    /// At most that many characters.
    pub longest: usize,
    /// Whether line breaks may stand in it.
    pub lines: Lines,
    /// Whether a text that is refused may be shown.
    pub exposure: Exposure,
}

/// Whether line breaks may stand in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// They may not.
    One,
    /// They may.
    Many,
}

/// Whether a text that is refused may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// It may.
    Open,
    /// Somebody may have written a secret there instead of a reference to it.
    Hidden,
}

impl Table {
    /// The field of a key.
    pub fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.key == key)
    }
}

/// A field that has to be there.
pub(super) const fn required(key: &'static str, shape: Shape, example: &'static str, about: &'static str) -> Field {
    Field { key, shape, need: Need::Required(example), about }
}

/// A field with a default.
pub(super) const fn default(key: &'static str, shape: Shape, value: &'static str, about: &'static str) -> Field {
    Field { key, shape, need: Need::Default(value), about }
}

/// A field that may be left out.
pub(super) const fn optional(key: &'static str, shape: Shape, without: &'static str, about: &'static str) -> Field {
    Field { key, shape, need: Need::Otherwise(without), about }
}

/// A rule for one line of text that may be shown.
pub(super) const fn line(
    expected: &'static str,
    pattern: Option<&'static str>,
    longest: usize,
    accept: fn(&str) -> bool,
) -> TextRule {
    TextRule { expected, pattern, accept, longest, lines: Lines::One, exposure: Exposure::Open }
}

/// Reads a length of time: a whole number followed by `ms`, `s`, `m`, `h` or `d`.
pub fn parse_lasting(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(unit);
    let number: u64 = digits.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Writes a length of time as [`parse_lasting`] reads it, in the largest unit that divides it.
pub fn show_lasting(lasting: Duration) -> String {
    let millis = lasting.as_millis();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if millis >= unit && millis.is_multiple_of(unit) {
            return format!("{}{name}", millis / unit);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_and_written_back() {
        for text in ["0s", "1ms", "1500ms", "90s", "15m", "2h", "14d"] {
            assert_eq!(show_lasting(parse_lasting(text).unwrap()), text);
        }
        assert_eq!(parse_lasting("60s"), parse_lasting("1m"));
        for bad in
            ["", "s", "10", "1.5h", "-1s", "1h30m", "1 s", "1S", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(parse_lasting(bad), None, "{bad}");
        }
    }
}
