//! Values of the domain as JSON text in a column.
//!
//! Guarantees: text that cannot be read is an error that names table and row, never a panic.
//! Must not know: tables.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::error::{Doing as _, StoreError};
use crate::domain::id::{EnvKey, PrNumber, RepoId};

/// A value as text.
pub(super) fn write<T: Serialize>(doing: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Bug { doing, why: error.to_string() })
}

/// A value from text.
pub(super) fn read<T: DeserializeOwned>(
    table: &'static str,
    row: impl std::fmt::Display,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt {
        table,
        row: row.to_string(),
        why: format!("{error} in {:?}", std::any::type_name::<T>()),
    })
}

/// The key in columns 0 and 1.
pub(super) fn key(doing: &'static str, row: &AnyRow) -> Result<EnvKey, StoreError> {
    Ok(EnvKey {
        repo: RepoId(row.try_get::<i64, _>(0).doing(doing)?.cast_unsigned()),
        pr: PrNumber(row.try_get::<i64, _>(1).doing(doing)?.cast_unsigned()),
    })
}
