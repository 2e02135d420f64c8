//! What migrations are made of. That they run, on data and on both databases, is tested in `tests/ladder/store`.

use crate::store::dialect::Dialect;
use crate::store::open::MIGRATIONS;

#[test]
fn both_dialects_fill_every_type_in() {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        for (_, name, sql) in MIGRATIONS {
            let filled: String =
                dialect.migration(sql).lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
            assert!(!filled.contains("SERIAL_KEY") && !filled.contains("BYTES"), "{name} for {dialect:?}");
        }
    }
}
