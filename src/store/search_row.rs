//! A row that a search read.

use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::row::KeyRow;

/// A row that a search read. `M` is the type of times.
pub(super) struct SearchRow<M> {
    pub(super) key: KeyRow<M>,
    /// Whether the key is one of those that are searched for.
    pub(super) is_match: bool,
    /// The number of the row in the range that was read, from 1.
    pub(super) number: i64,
}

impl<'r, R: Row, M> FromRow<'r, R> for SearchRow<M>
where
    KeyRow<M>: FromRow<'r, R>,
    &'static str: ColumnIndex<R>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        Ok(Self { key: KeyRow::from_row(row)?, is_match: row.try_get("is_match")?, number: row.try_get("number")? })
    }
}
