//! Rows that are written by the block: what a statement costs besides its rows is paid once for many.

use std::fmt::Write;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row, Statement, Transaction};

use super::super::StoreError;

/// So many rows are written by one statement, where there are so many.
pub(super) const BLOCK_ROWS: usize = 16;

/// A statement that inserts rows.
pub(super) struct Insert<const COLUMNS: usize> {
    one: String,
    block: String,
}

impl<const COLUMNS: usize> Insert<COLUMNS> {
    /// `head` is the statement up to `VALUES`; `tail` what stands behind the rows.
    pub(super) fn new(head: &str, tail: &str) -> Self {
        let values = |rows| {
            let mut text = format!("{head} VALUES ");
            for row in 0..rows {
                text.push_str(if row == 0 { "(" } else { ", (" });
                placeholders(&mut text, COLUMNS);
                text.push(')');
            }
            text + tail
        };
        Self { one: values(1), block: values(BLOCK_ROWS) }
    }

    /// Writes rows.
    pub(super) fn write(
        &self,
        transaction: &Transaction<'_>,
        rows: &[[ValueRef<'_>; COLUMNS]],
    ) -> Result<(), StoreError> {
        self.each(rows, |rows, text| {
            let mut insert = transaction.prepare_cached(text)?;
            bind(&mut insert, rows.as_flattened())?;
            insert.raw_execute()?;
            Ok(())
        })
    }

    /// Writes rows, and hands over each that the statement returns.
    pub(super) fn write_returning(
        &self,
        transaction: &Transaction<'_>,
        rows: &[[ValueRef<'_>; COLUMNS]],
        mut returned: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each(rows, |rows, text| {
            let mut insert = transaction.prepare_cached(text)?;
            bind(&mut insert, rows.as_flattened())?;
            let mut answer = insert.raw_query();
            while let Some(row) = answer.next()? {
                returned(row)?;
            }
            Ok(())
        })
    }

    fn each<'r, 'v>(
        &self,
        rows: &'r [[ValueRef<'v>; COLUMNS]],
        mut write: impl FnMut(&'r [[ValueRef<'v>; COLUMNS]], &str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (blocks, rest) = rows.as_chunks::<BLOCK_ROWS>();
        blocks.iter().try_for_each(|block| write(block, &self.block))?;
        rest.chunks(1).try_for_each(|row| write(row, &self.one))
    }
}

/// Appends so many placeholders.
pub(super) fn placeholders(text: &mut String, count: usize) {
    for number in 0..count {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}?", if number == 0 { "" } else { ", " });
    }
}

/// Binds values in their order.
pub(super) fn bind(statement: &mut Statement<'_>, values: &[ValueRef<'_>]) -> Result<(), StoreError> {
    for (number, value) in (1..).zip(values) {
        statement.raw_bind_parameter::<usize, _>(number, ToSqlOutput::Borrowed(*value))?;
    }
    Ok(())
}

/// A text as a value.
pub(super) fn text(text: &str) -> ValueRef<'_> {
    ValueRef::Text(text.as_bytes())
}

/// A number as a value, or none.
pub(super) fn number(number: Option<i64>) -> ValueRef<'static> {
    number.map_or(ValueRef::Null, ValueRef::Integer)
}

/// Bytes as a value, or none.
pub(super) fn blob(bytes: Option<&[u8]>) -> ValueRef<'_> {
    bytes.map_or(ValueRef::Null, ValueRef::Blob)
}
