//! Any text is classified without a panic, and no text that was not minted here has a checksum that holds.

#![no_main]

use std::sync::LazyLock;

use keygate::clock::Timestamp;
use keygate::credential::{Keyring, Routing, Shape};
use libfuzzer_sys::fuzz_target;

static KEYRING: LazyLock<Keyring> =
    LazyLock::new(|| Keyring::new(&"a secret that no input was made with!!".to_owned().into(), &[]));
static ROUTING: LazyLock<Routing> = LazyLock::new(|| Routing::new(&["mc", "old"]));

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Shape::Issued(key) = ROUTING.classify(text)
    {
        assert!(!key.checksum_holds(&KEYRING, Timestamp::UNIX_EPOCH));
    }
});
