//! Generated requests, and mutated ones.

use keygate_test_servers::{mutated_requests, sent_request};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::generated_cases;
use super::Readers;

/// The number of generated connections of each test.
const CASES: u32 = 250;

fn check_all(connections: &impl Strategy<Value = Vec<u8>>) {
    let readers = Readers::start();
    let mut runner = generated_cases(CASES);
    let result = runner.run(connections, |bytes| {
        readers
            .check(&bytes)
            .map(drop)
            .map_err(|error| TestCaseError::fail(format!("{}\n{error}", bytes.escape_ascii())))
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn generated_requests_have_the_same_meaning_for_all_readers() {
    check_all(&vec(sent_request(), 1..4).prop_map(|sent| sent.into_iter().flat_map(|sent| sent.bytes).collect()));
}

#[test]
fn mutated_requests_have_the_same_meaning_for_all_readers() {
    check_all(&mutated_requests());
}
