//! Text of statements, with the only two ways to put a name or a value into one.
//!
//! Guarantees: what went through [`ident`] or [`literal`] cannot leave its place in a statement.
//! Must not know: connections.

use sqlx::AssertSqlSafe;

/// One statement, or several that the server takes as one transaction. No `Debug`: it may hold a verifier.
#[derive(Clone, PartialEq, Eq)]
pub struct Sql(String);

impl Sql {
    /// A statement. The caller vouches that every name and value in it went through [`ident`] or
    /// [`literal`].
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// All of them or none: a simple query of several statements is one transaction. BEGIN and COMMIT would
    /// leave the session inside a failed transaction.
    #[must_use]
    pub fn all(statements: impl IntoIterator<Item = Self>) -> Self {
        let texts: Vec<String> = statements.into_iter().map(|statement| statement.0).collect();
        Self(texts.join(";\n"))
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// For the driver.
    pub fn safe(self) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.0)
    }
}

/// Quotes an identifier. A NUL cannot be sent to the server at all, so it is left out.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// Quotes a string, independently of `standard_conforming_strings`.
pub fn literal(value: &str) -> String {
    let value = value.replace('\0', "").replace('\'', "''");
    if value.contains('\\') { format!("E'{}'", value.replace('\\', "\\\\")) } else { format!("'{value}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_cannot_be_left() {
        assert_eq!(ident(r#"a"; DROP DATABASE x; --"#), r#""a""; DROP DATABASE x; --""#);
        assert_eq!(literal("a'; DROP DATABASE x; --"), "'a''; DROP DATABASE x; --'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
        assert_eq!(ident("a\0b"), "\"ab\"");
    }

    #[test]
    fn a_list_is_one_transaction() {
        let both = Sql::all([Sql::new("A"), Sql::new("B")]);
        assert_eq!(both.text(), "A;\nB");
    }
}
