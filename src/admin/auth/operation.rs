//! The only table of operations and the access that each needs. A handler gets its request context only for an operation of this table
//! (`Context<op::…>`), so an operation without an entry does not compile.

use super::role::Role;

/// What a caller needs for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Access {
    /// Nothing.
    Public,
    /// An admin key with any role.
    AnyRole,
    /// An admin key with this role.
    Role(Role),
}

/// An operation as a type, for the extractors of handlers.
pub(in crate::admin) trait Op: Send + Sync + 'static {
    /// The operation.
    const OPERATION: Operation;
}

/// Declares the operations: name, access, method and path.
macro_rules! operations {
    ($($name:ident: $access:expr, $route:literal;)*) => {
        /// An operation of the admin API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::admin) enum Operation {
            $(#[doc = concat!("`", $route, "`")] $name,)*
        }

        impl Operation {
            /// All operations, in the order of the documentation.
            pub(in crate::admin) const ALL: &[Self] = &[$(Self::$name),*];

            /// What a caller needs.
            pub(in crate::admin) fn access(self) -> Access {
                match self {
                    $(Self::$name => $access,)*
                }
            }

            /// The method and the path.
            pub(in crate::admin) fn route(self) -> &'static str {
                match self {
                    $(Self::$name => $route,)*
                }
            }
        }

        /// The operations as types.
        pub(in crate::admin) mod op {
            $(
                #[doc = concat!("`", $route, "`")]
                pub(in crate::admin) struct $name;

                impl super::Op for $name {
                    const OPERATION: super::Operation = super::Operation::$name;
                }
            )*
        }
    };
}

const READ: Access = Access::Role(Role::Read);
const VERIFY: Access = Access::Role(Role::Verify);
const MANAGE: Access = Access::Role(Role::Manage);
const ADMIN: Access = Access::Role(Role::Admin);

operations! {
    GetIssuedKey: READ, "GET /v2alpha1/admin/issuedApiKeys/{key_id}";
    ListIssuedKeys: READ, "GET /v2alpha1/admin/issuedApiKeys";
    GetImportedKey: READ, "GET /v2alpha1/admin/importedApiKeys/{key_id}";
    ListImportedKeys: READ, "GET /v2alpha1/admin/importedApiKeys";
    ListAuditEvents: READ, "GET /keygate/v1/auditEvents";
    VerifyAuditChain: READ, "GET /keygate/v1/auditChain";
    GetKeyUsage: READ, "GET /keygate/v1/keys/{key_id}/usage";
    GetKeyRateLimit: READ, "GET /keygate/v1/keys/{key_id}/rateLimit";
    ListTopKeys: READ, "GET /keygate/v1/topKeys";
    ListKeys: READ, "GET /keygate/v1/keys";
    CountInactiveKeys: READ, "GET /keygate/v1/keys:countInactive";
    GetConfig: READ, "GET /keygate/v1/config";
    ListNodes: READ, "GET /keygate/v1/nodes";
    GetOverview: READ, "GET /keygate/v1/overview";
    DescribeApi: READ, "GET /openapi.json";
    DescribeOwnApi: READ, "GET /openapi-keygate.json";
    VerifyKey: VERIFY, "POST /v2alpha1/admin/apiKeys:verify";
    BatchVerifyKeys: VERIFY, "POST /v2alpha1/admin/apiKeys:batchVerify";
    Introspect: VERIFY, "POST /keygate/v1/introspect";
    Explain: VERIFY, "POST /keygate/v1/explain";
    IssueKey: MANAGE, "POST /v2alpha1/admin/issuedApiKeys";
    UpdateIssuedKey: MANAGE, "PATCH /v2alpha1/admin/issuedApiKeys/{key_id}";
    RotateIssuedKey: MANAGE, "POST /v2alpha1/admin/issuedApiKeys/{key_id}:rotate";
    RevokeIssuedKey: MANAGE, "POST /v2alpha1/admin/issuedApiKeys/{key_id}:revoke";
    ImportKey: MANAGE, "POST /v2alpha1/admin/importedApiKeys";
    BatchImportKeys: MANAGE, "POST /v2alpha1/admin/importedApiKeys:batchCreate";
    BatchImportKeysLegacy: MANAGE, "POST /v2alpha1/admin/importedApiKeys:batchImport";
    UpdateImportedKey: MANAGE, "PATCH /v2alpha1/admin/importedApiKeys/{key_id}";
    RevokeImportedKey: MANAGE, "POST /v2alpha1/admin/importedApiKeys/{key_id}:revoke";
    DeleteImportedKey: MANAGE, "DELETE /v2alpha1/admin/importedApiKeys/{key_id}";
    RevokeKeyLegacy: MANAGE, "POST /v2alpha1/admin/apiKeys/{key_id}:revoke";
    DeriveToken: MANAGE, "POST /v2alpha1/admin/apiKeys:derive";
    CreateAdminKey: ADMIN, "POST /keygate/v1/adminKeys";
    ListAdminKeys: ADMIN, "GET /keygate/v1/adminKeys";
    GetAdminKey: ADMIN, "GET /keygate/v1/adminKeys/{key_id}";
    RotateAdminKey: ADMIN, "POST /keygate/v1/adminKeys/{key_id}:rotate";
    RevokeAdminKey: ADMIN, "POST /keygate/v1/adminKeys/{key_id}:revoke";
    GetCaller: Access::AnyRole, "GET /keygate/v1/caller";
    SelfRevokeKey: Access::Public, "POST /v2alpha1/apiKeys:selfRevoke";
    GetJwks: Access::Public, "GET /v2alpha1/derivedKeys/jwks.json";
    GetJwksLegacy: Access::Public, "GET /v2alpha1/admin/derivedKeys/jwks.json";
    GetVersion: Access::Public, "GET /version";
    CheckAlive: Access::Public, "GET /health/alive";
    CheckReady: Access::Public, "GET /health/ready";
}

/// The method and path of each operation, and what it needs, as documents name it.
#[cfg(test)]
pub(crate) fn operations() -> Vec<(&'static str, String)> {
    let needs = |operation: &Operation| match operation.access() {
        Access::Public => "no key".to_owned(),
        Access::AnyRole => "any role".to_owned(),
        Access::Role(role) => format!("`{role}`"),
    };
    Operation::ALL.iter().map(|operation| (operation.route(), needs(operation))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_has_the_table_of_operations() {
        let rows: Vec<_> = operations().iter().map(|(route, needs)| format!("| `{route}` | {needs} |\n")).collect();
        let rows = rows.concat();
        let documentation = include_str!("../../../docs/admin-auth.md");
        assert!(documentation.contains(&rows), "docs/admin-auth.md lacks this table:\n{rows}");
    }
}
