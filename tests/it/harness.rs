//! The throw-away servers: they answer, and nothing of them is left, also when a test fails.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use keygate_test_servers::{Postgres, Redis, eventually};

fn assert_gone((id, folder): (u32, PathBuf)) {
    eventually("the process is gone", || !Path::new(&format!("/proc/{id}")).exists());
    assert!(!folder.exists(), "{} is left", folder.display());
}

#[test]
fn postgres_answers_and_leaves_nothing_behind() {
    let server = Postgres::start();
    assert_eq!(server.query("SELECT 6 * 7").as_deref(), Some("42"));
    let traces = server.process_and_folder();
    drop(server);
    assert_gone(traces);
}

#[test]
fn redis_answers_and_leaves_nothing_behind() {
    let server = Redis::start();
    let mut connection = server.connect();
    connection.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
    let traces = server.process_and_folder();
    drop(server);
    assert_gone(traces);
}

#[test]
fn a_failing_test_leaves_no_server_behind() {
    let mut traces = None;
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let server = Redis::start();
        traces = Some(server.process_and_folder());
        panic!("a test fails");
    }));
    assert!(failed.is_err());
    assert_gone(traces.unwrap());
}
