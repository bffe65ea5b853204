//! Who makes a request, for which tenant, and from where: one value that goes from the front through the use cases down to
//! every write of the store.

mod actor_scope;
mod administrator;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::id::{KeyId, RequestId, TenantId};

pub use actor_scope::ActorScope;
pub use administrator::Administrator;

/// The context of one request, or of one piece of background work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// The tenant whose keys are read and written.
    pub tenant: TenantId,
    /// Who makes the request.
    pub principal: Principal,
    /// The actors whose keys the request may read and write.
    pub actors: ActorScope,
    /// The client's address; `None` when it is unknown and for background work.
    pub client_ip: Option<IpAddr>,
    /// The id of the request, as in its response and its access-log line.
    pub request_id: RequestId,
}

/// Who makes a request. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A client that was not authenticated.
    Anonymous,
    /// The holder of a key, who presented the key itself (self-service).
    Key(KeyId),
    /// An authenticated administrator.
    Admin(Administrator),
    /// Keygate itself: start-up and background work. The only principal that may write keys of every tenant.
    System,
}

impl RequestContext {
    /// The context of start-up or background work for `tenant`, with a new request id.
    pub fn system(tenant: TenantId) -> Self {
        let (actors, request_id) = (ActorScope::All, RequestId::random());
        Self { tenant, principal: Principal::System, actors, client_ip: None, request_id }
    }

    /// The same request, made by `principal`.
    #[must_use]
    pub fn with_principal(self, principal: Principal) -> Self {
        Self { principal, ..self }
    }
}

impl Principal {
    /// The name for logs and audit rows: `anonymous`, `system`, `key:` with the key's id or `admin:` with the name.
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Anonymous => "anonymous".into(),
            Self::Key(id) => format!("key:{id}").into(),
            Self::Admin(admin) => format!("admin:{}", admin.name).into(),
            Self::System => "system".into(),
        }
    }

    /// The roles of an administrator; none for others.
    pub fn roles(&self) -> &[&'static str] {
        match self {
            Self::Admin(admin) => &admin.roles,
            Self::Anonymous | Self::Key(_) | Self::System => &[],
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_of_different_kinds_never_share_a_name() {
        let id = KeyId::Issued(uuid::Uuid::from_u128(1));
        for (principal, name) in [
            (Principal::Anonymous, "anonymous"),
            (Principal::Key(id), "key:00000000-0000-0000-0000-000000000001"),
            (Principal::Admin(Administrator::new("system", vec!["read"])), "admin:system"),
            (Principal::System, "system"),
        ] {
            assert_eq!((principal.name(), principal.to_string()), (name.into(), name.to_owned()));
        }
    }

    #[test]
    fn a_new_principal_leaves_the_rest_of_the_context() {
        let tenant = TenantId(uuid::Uuid::from_u128(7));
        let system = RequestContext::system(tenant);
        let key = system.clone().with_principal(Principal::Anonymous);
        assert_eq!((key.tenant, &key.request_id, &key.principal), (tenant, &system.request_id, &Principal::Anonymous));
    }
}
