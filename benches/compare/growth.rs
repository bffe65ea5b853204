//! What a request costs as the work grows: more keys, more routes, more address ranges of a key.
use crate::settings::Settings;
pub(crate) fn run(_: &Settings) {}
