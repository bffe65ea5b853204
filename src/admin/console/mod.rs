//! The console: pages for a browser at `/console/`. They are made from responses of the API, which is called in process with the admin key
//! of the session, so each page shows and does only what the role of that key permits.

mod api;
mod assets;
mod chart;
mod csv;
mod failure;
mod fields;
mod guard;
mod model;
mod multipart;
mod number;
mod page;
mod pages;
mod router;
mod session;
mod sessions;
mod signed_in;
mod state;
mod streamed;
mod time;

pub(super) use router::{PREFIX, console};
