use std::collections::VecDeque;
use std::sync::Arc;

use super::*;
use crate::ratelimit::testing::{RedisServer, eventually};

#[test]
fn nodes_that_tell_so_are_counted_until_they_leave_or_fall_silent() {
    let server = RedisServer::start();
    let (redis, runtime) = (&*server.redis, &server.runtime);
    let nodes = Nodes::alone();
    let announce = |name| runtime.block_on(nodes.announce(redis, name)).unwrap();
    assert_eq!((announce("a"), announce("b"), announce("a")), (1, 2, 2));
    runtime.block_on(nodes.leave(redis, "b")).unwrap();
    assert_eq!(announce("a"), 1);
    // One that was heard of last in 1970.
    let mut silent = ::redis::cmd("ZADD");
    runtime.block_on(redis.run::<u64>(silent.arg("keygate:nodes").arg(1).arg("c"))).unwrap();
    assert_eq!(announce("a"), 1);
    let life: i64 = runtime.block_on(redis.run(::redis::cmd("PTTL").arg("keygate:nodes"))).unwrap();
    assert!((1..=6000).contains(&life), "{life}");
}

#[test]
fn a_node_knows_how_many_others_there_are() {
    let server = RedisServer::start();
    let counts = [Arc::new(Nodes::alone()), Arc::new(Nodes::alone())];
    for (nodes, name) in counts.iter().zip(["a", "b"]) {
        let (nodes, redis) = (Arc::clone(nodes), Arc::clone(&server.redis));
        server.runtime.spawn(async move { nodes.keep_announced(&redis, name).await });
    }
    eventually("both count two", || counts.iter().all(|nodes| nodes.count() == 2));
}

#[test]
fn a_redis_that_starts_empty_makes_nobody_believe_to_be_alone() {
    let (nodes, mut counts) = (Nodes::alone(), VecDeque::new());
    let known = [3, 1, 2, 3, 1, 1, 1].map(|count| {
        nodes.heard(count, &mut counts);
        nodes.count()
    });
    assert_eq!(known, [3, 3, 3, 3, 3, 3, 1]);
}
