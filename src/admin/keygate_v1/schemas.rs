//! Schemas of texts and objects for the OpenAPI description. Members name them by `#[schema(value_type = ..., inline)]`, and have no
//! description of their own: the member would be of both schemas.

use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::admin::auth::ACTOR_PREFIX_MAX;

/// Declares types that exist only as schemas of a text with a closed list of values.
macro_rules! choice_schemas {
    ($($(#[$meta:meta])* $name:ident: $($value:literal),+;)*) => {
        $(
            $(#[$meta])*
            pub(in crate::admin) struct $name;

            impl ToSchema for $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    ObjectBuilder::new().schema_type(Type::String).enum_values(Some([$($value),+])).into()
                }
            }
        )*
    };
}

choice_schemas! {
    /// The kind of a key.
    KindText: "issued", "imported";
    /// A status of a key.
    StatusText: "KEY_STATUS_ACTIVE", "KEY_STATUS_REVOKED", "KEY_STATUS_EXPIRED";
    /// The length of a period.
    StepText: "hour", "day";
    /// An order of time.
    OrderText: "asc", "desc";
    /// A role of an admin key.
    RoleText: "read", "verify", "manage", "admin";
    /// The result of a step.
    OutcomeText: "passed", "failed", "skipped";
    /// The state of a dependency.
    HealthText: "ok", "unavailable";
    /// Where the value of a setting is from.
    SourceText: "default", "file", "environment", "program";
}

/// The prefix of an actor.
pub(in crate::admin) struct ActorPrefixText;

impl ToSchema for ActorPrefixText {}

impl PartialSchema for ActorPrefixText {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
        text.max_length(Some(ACTOR_PREFIX_MAX)).into()
    }
}

/// The value of a setting.
pub(in crate::admin) struct SettingValue;

impl ToSchema for SettingValue {}

impl PartialSchema for SettingValue {
    fn schema() -> RefOr<Schema> {
        let description = "The value, of any type. Secrets are replaced by `[REDACTED]`.";
        ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(description)).into()
    }
}

/// A row of the audit trail. Absent members are left out.
pub(in crate::admin) struct AuditEvent;

impl ToSchema for AuditEvent {}

impl PartialSchema for AuditEvent {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let any = || ObjectBuilder::new().schema_type(SchemaType::AnyValue);
        let members = [
            ("id", text().description(Some("A UUID version 7")), true),
            ("time", text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))), true),
            ("event", text().description(Some("The name of the event")), true),
            ("principal", text().description(Some("Who made the call")), true),
            ("client_ip", text().description(Some("The address of the caller")), false),
            ("request_id", text().description(Some("The id of the request")), true),
            ("tenant", text().description(Some("A UUID")), true),
            ("key_id", text().description(Some("The key that the event is about")), false),
            ("actor_id", text().description(Some("The actor of the key")), false),
            ("before", any().description(Some("The changed members before the change")), false),
            ("after", any().description(Some("The changed members after it")), false),
            ("details", any().description(Some("What else is known")), false),
            ("writer", text().description(Some("The process that wrote the row")), true),
            ("mac", text().description(Some("The code of the row")), true),
            ("chain", text().description(Some("The chain, of a sealed row")), false),
            (
                "seq",
                ObjectBuilder::new().schema_type(Type::Integer).description(Some("The position in the chain")),
                false,
            ),
            ("seal", text().description(Some("The code of the position")), false),
        ];
        let row = ObjectBuilder::new().description(Some("A row of the audit trail. Absent members are left out."));
        let roles = ArrayBuilder::new().items(text()).description(Some("The roles of the admin key"));
        let row = members.into_iter().fold(row.property("roles", roles), |row, (name, member, is_required)| {
            let row = row.property(name, member);
            if is_required { row.required(name) } else { row }
        });
        row.into()
    }
}

/// An introspection request (RFC 7662 section 2.1).
pub(in crate::admin) struct IntrospectionRequest;

impl ToSchema for IntrospectionRequest {}

impl PartialSchema for IntrospectionRequest {
    fn schema() -> RefOr<Schema> {
        let text = |description| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
        let audience = ObjectBuilder::new().schema_type(Type::String).max_length(Some(255));
        let audiences = ArrayBuilder::new().items(audience).max_items(Some(100));
        ObjectBuilder::new()
            .description(Some(
                "An introspection request (RFC 7662 section 2.1). Parameters without a value count as omitted.",
            ))
            .property("token", text("The credential").min_length(Some(1)))
            .required("token")
            .property("token_type_hint", text("Accepted and ignored"))
            .property(
                "charge",
                text("Whether the use is charged to the rate limit of the key").enum_values(Some(["true", "false"])),
            )
            .property("client_ip", text("The IP address of the client that presented the credential, without a port"))
            .property(
                "audience",
                audiences.description(Some("The audiences of which the credential must name one; repeated")),
            )
            .into()
    }
}
