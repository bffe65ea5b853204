//! Keygate.
