//! Schemas of texts for the OpenAPI description, with the limits of the contract (admin API section 4.2). Members name them by
//! `#[schema(value_type = ..., inline)]`.

use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Declares types that exist only as schemas of a text.
macro_rules! text_schemas {
    ($($(#[$meta:meta])* $name:ident: $min:expr, $max:expr, $pattern:expr;)*) => {
        $(
            $(#[$meta])*
            pub(in crate::admin) struct $name;

            impl ToSchema for $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let text = ObjectBuilder::new().schema_type(Type::String).min_length($min).max_length($max);
                    text.pattern($pattern).into()
                }
            }
        )*
    };
}

text_schemas! {
    /// A scope.
    ScopeText: Some(1), Some(100), None::<String>;
    /// An audience.
    AudienceText: Some(1), Some(255), None::<String>;
    /// A CIDR range.
    CidrText: Some(1), Some(50), Some("^[0-9A-Fa-f:.]+/[0-9]{1,3}$");
}
