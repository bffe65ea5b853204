//! Documents that are generated: a test compares the committed file with what the product has.

use std::path::Path;

/// The variable that has the tests write the documents instead of comparing them.
const WRITE: &str = "KEYGATE_WRITE_DOCUMENTS";

/// Compares a file, by its path from the root of the repository, with its generated text, or writes it if `KEYGATE_WRITE_DOCUMENTS` is set.
pub fn check_document(path: &str, generated: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, generated).unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let difference = committed.lines().zip(generated.lines()).find(|(committed, generated)| committed != generated);
    assert!(committed == generated, "{path} is outdated, first at {difference:?}; run `make documents`");
}
