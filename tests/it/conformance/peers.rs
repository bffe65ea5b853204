//! The peers, configured with the text of `docs/external-auth.md`.

use keygate_test_servers::{PeerProgram, free_port};

use super::fixture::Fixture;
use super::front::{Description, Exception, Listener};
use crate::support::documentation::{documented, replace_ports};

/// A peer and the configuration that the documentation has for it.
pub(crate) struct PeerFront {
    pub(crate) description: Description,
    program: PeerProgram,
    /// The name of the configuration in the documentation.
    file: &'static str,
    /// What the client gets while Keygate does not answer.
    pub(crate) status_without_keygate: u16,
}

/// The ports on loopback that Keygate, the upstream and the peer listen on in the documentation.
const EXTERNAL_AUTH: u16 = 8081;
const UPSTREAM: u16 = 9000;
const PEER: u16 = 8000;

pub(crate) const NGINX: PeerFront = PeerFront {
    description: Description {
        name: "nginx",
        keeps_bodies: false,
        keeps_request_id: false,
        keeps_authorization: false,
        matches_routes: true,
        exceptions: &[Exception {
            note: "in Authorization, twice",
            status: 400,
            reason: "nginx rejects a second Authorization field",
        }],
    },
    program: PeerProgram::Nginx,
    file: "nginx.conf",
    status_without_keygate: 503,
};

pub(crate) const CADDY: PeerFront = PeerFront {
    description: Description {
        name: "Caddy",
        keeps_bodies: true,
        keeps_request_id: true,
        keeps_authorization: false,
        matches_routes: true,
        exceptions: &[],
    },
    program: PeerProgram::Caddy,
    file: "Caddyfile",
    status_without_keygate: 502,
};

const ENCODED_SLASHES: Exception =
    Exception { note: "encoded slashes", status: 400, reason: "Envoy rejects encoded slashes" };
const PATH_PARAMETERS: Exception =
    Exception { note: "path parameters", status: 401, reason: "Envoy resolves `..;` like `..` before the check" };
const UNDERSCORES: Exception =
    Exception { note: "with X_Keygate_Actor_Id", status: 400, reason: "Envoy rejects names with underscores" };
const TWO_AUTHORIZATIONS: Exception = Exception {
    note: "in Authorization, twice",
    status: 400,
    reason: "Envoy joins the fields, so the code is `credential_malformed`",
};
const TWO_API_KEYS: Exception = Exception {
    note: "in X-API-Key, twice",
    status: 401,
    reason: "Envoy joins the fields, so the code is `credential_invalid`",
};

pub(crate) const ENVOY_HTTP: PeerFront = PeerFront {
    description: Description {
        name: "Envoy, HTTP",
        keeps_bodies: true,
        keeps_request_id: true,
        keeps_authorization: true,
        matches_routes: true,
        exceptions: &[ENCODED_SLASHES, PATH_PARAMETERS, UNDERSCORES, TWO_AUTHORIZATIONS, TWO_API_KEYS],
    },
    program: PeerProgram::Envoy,
    file: "envoy-http.yaml",
    status_without_keygate: 503,
};

pub(crate) const ENVOY_GRPC: PeerFront = PeerFront {
    description: Description {
        name: "Envoy, gRPC",
        keeps_bodies: true,
        keeps_request_id: true,
        keeps_authorization: true,
        matches_routes: true,
        exceptions: &[ENCODED_SLASHES, PATH_PARAMETERS, UNDERSCORES, TWO_AUTHORIZATIONS],
    },
    program: PeerProgram::Envoy,
    file: "envoy-grpc.yaml",
    status_without_keygate: 503,
};

impl PeerFront {
    /// Starts the peer in front of a fixture; `None` if it is not installed.
    pub(crate) fn start(&'static self, fixture: &Fixture) -> Option<Listener> {
        let port = free_port();
        let upstream = fixture.upstream.url.rsplit_once(':').unwrap().1.parse().unwrap();
        let ports = [(EXTERNAL_AUTH, fixture.external_auth), (UPSTREAM, upstream), (PEER, port)];
        let config = replace_ports(documented("external-auth.md", self.file), &ports);
        // On a busy machine an answer may take longer than a user would wait for it.
        let config = config.replace("timeout: 1s", "timeout: 60s");
        let peer = self.program.start(&config, port)?;
        Some(Listener::peer(&self.description, port, peer, fixture))
    }
}
