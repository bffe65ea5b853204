//! The inputs that fuzzing starts from, and those it once found, in every test run.

use keygate::clock::Timestamp;
use keygate::credential::{Keyring, Routing, Shape};

#[test]
fn no_input_of_the_credential_corpus_panics_or_verifies() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus/credential");
    let keyring = Keyring::new(&"a secret that no input was made with!!".to_owned().into(), &[]);
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        inputs += 1;
        if let Shape::Issued(key) = Routing::new(&["mc", "old"]).classify(&String::from_utf8_lossy(&bytes)) {
            assert!(!key.checksum_holds(&keyring, Timestamp::UNIX_EPOCH));
        }
    }
    assert!(inputs >= 10, "the corpus has only {inputs} inputs");
}
