//! Structs that are read from rows. The derive macro of sqlx does the same, but builds sqlx and SQLite a second time, for the
//! compiler: an eighth of the time of a build.

/// Defines a struct and implements `sqlx::FromRow` for it: each field is read from the column of its name.
macro_rules! row_struct {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident $(<$parameter:ident>)? {
            $($field_visibility:vis $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $name $(<$parameter>)? {
            $($field_visibility $field: $type,)*
        }

        impl<'r, R: sqlx::Row $(, $parameter)?> sqlx::FromRow<'r, R> for $name $(<$parameter>)?
        where
            &'static str: sqlx::ColumnIndex<R>,
            $($type: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> sqlx::Result<Self> {
                Ok(Self { $($field: row.try_get(stringify!($field))?,)* })
            }
        }
    };
}

pub(super) use row_struct;
