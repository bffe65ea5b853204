//! The inputs that fuzzing starts from, and those it once found, in every test run.

#[expect(unreachable_pub, reason = "the fuzzing programs are another crate")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Feeds each input of a corpus to its target, which panics when something does not hold.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = format!("{}/tests/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let inputs = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let count = inputs.inspect(|input| target(input)).count();
    assert!(count >= 10, "the corpus of {name} has only {count} inputs");
}

#[test]
fn credentials() {
    replay("credential", targets::credential);
}

#[test]
fn macaroons() {
    replay("macaroon", targets::macaroon);
}

#[test]
fn filters() {
    replay("filter", targets::filter);
}

#[test]
fn times_to_live() {
    replay("ttl", targets::ttl);
}

#[test]
fn page_tokens() {
    replay("page_token", targets::page_token);
}
