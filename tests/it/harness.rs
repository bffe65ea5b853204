//! The temporary servers of the tests work, and their processes and folders are removed on drop, also when a test panics.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use keygate_test_servers::{Postgres, Redis, eventually};

fn assert_removed((id, folder): (u32, PathBuf)) {
    eventually("the process has ended", || !Path::new(&format!("/proc/{id}")).exists());
    assert!(!folder.exists(), "{} exists", folder.display());
}

#[test]
fn postgres_serves_and_is_removed_on_drop() {
    let server = Postgres::start();
    assert_eq!(server.query("SELECT 6 * 7").as_deref(), Some("42"));
    let process_and_folder = server.process_and_folder();
    drop(server);
    assert_removed(process_and_folder);
}

#[test]
fn redis_serves_and_is_removed_on_drop() {
    let server = Redis::start();
    let mut connection = server.connect();
    connection.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    connection.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
    let process_and_folder = server.process_and_folder();
    drop(server);
    assert_removed(process_and_folder);
}

#[test]
fn server_of_a_panicking_test_is_removed() {
    let mut process_and_folder = None;
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let server = Redis::start();
        process_and_folder = Some(server.process_and_folder());
        panic!("the test fails");
    }));
    assert!(failed.is_err());
    assert_removed(process_and_folder.unwrap());
}
