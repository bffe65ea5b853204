//! Runs the fuzz targets on their seed corpus and on inputs that fuzzing has found.

#[expect(unreachable_pub, reason = "the fuzzing programs are another crate")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Runs a target on each input of its corpus; the target panics if a property does not hold.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = format!("{}/tests/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let inputs = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let count = inputs.inspect(|input| target(input)).count();
    assert!(count >= 10, "the corpus of {name} has only {count} inputs");
}

#[test]
fn credential_corpus_passes() {
    replay("credential", targets::credential);
}

#[test]
fn macaroon_corpus_passes() {
    replay("macaroon", targets::macaroon);
}

#[test]
fn filter_corpus_passes() {
    replay("filter", targets::filter);
}

#[test]
fn ttl_corpus_passes() {
    replay("ttl", targets::ttl);
}

#[test]
fn page_token_corpus_passes() {
    replay("page_token", targets::page_token);
}

#[test]
fn http1_request_corpus_passes() {
    replay("http1_request", targets::http1_request);
}

#[test]
fn http1_response_corpus_passes() {
    replay("http1_response", targets::http1_response);
}
