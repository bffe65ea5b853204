use std::collections::VecDeque;
use std::sync::Arc;

use super::*;
use crate::ratelimit::testing::{RedisServer, eventually};

#[test]
fn nodes_are_counted_until_they_leave_or_miss_heartbeats() {
    let server = RedisServer::start();
    let (redis, runtime) = (&*server.redis, &server.runtime);
    let nodes = Nodes::alone();
    let heartbeat = |name| runtime.block_on(nodes.heartbeat(redis, name)).unwrap();
    assert_eq!((heartbeat("a"), heartbeat("b"), heartbeat("a")), (1, 2, 2));
    runtime.block_on(nodes.leave(redis, "b")).unwrap();
    assert_eq!(heartbeat("a"), 1);
    // Its last heartbeat was in 1970.
    let mut expired = ::redis::cmd("ZADD");
    runtime.block_on(redis.run::<u64>(expired.arg("keygate:nodes").arg(1).arg("c"))).unwrap();
    assert_eq!(heartbeat("a"), 1);
    let ttl: i64 = runtime.block_on(redis.run(::redis::cmd("PTTL").arg("keygate:nodes"))).unwrap();
    assert!((1..=6000).contains(&ttl), "{ttl}");
}

#[test]
fn nodes_count_each_other() {
    let server = RedisServer::start();
    let counts = [Arc::new(Nodes::alone()), Arc::new(Nodes::alone())];
    for (nodes, name) in counts.iter().zip(["a", "b"]) {
        let (nodes, redis) = (Arc::clone(nodes), Arc::clone(&server.redis));
        server.runtime.spawn(async move { nodes.run_heartbeat(&redis, name).await });
    }
    eventually("both count two", || counts.iter().all(|nodes| nodes.count() == 2));
}

#[test]
fn count_does_not_drop_when_redis_restarts_empty() {
    let (nodes, mut counts) = (Nodes::alone(), VecDeque::new());
    let counted = [3, 1, 2, 3, 1, 1, 1].map(|count| {
        nodes.update(count, &mut counts);
        nodes.count()
    });
    assert_eq!(counted, [3, 3, 3, 3, 3, 3, 1]);
}
