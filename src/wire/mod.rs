//! What the fronts put on the wire and take off it, over `http` types. Knows no server.

pub mod client_ip;
pub mod extract;
pub mod problem;
pub mod ratelimit;
