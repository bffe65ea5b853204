//! Time to charge a request against limits in this process, in Redis, and with leases from Redis. Requires `redis-server`.

use std::hint::black_box;
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use keygate::clock::{Clock, SystemClock};
use keygate::config::RedisConfig;
use keygate::id::{KeyId, TenantId};
use keygate::ratelimit::{
    Backend, BucketOwner, BucketStore, Charge, Exact, Leased, Limit, Local, NamedLimit, Nodes, RedisBucketStore,
};
use keygate::redis::Redis;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

const OWNERS_MAX: usize = 1_000_000;

/// A Redis server. It is killed on drop.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("there is a free port").port();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, port }
    }

    fn connect(&self, runtime: &Runtime) -> Arc<Redis> {
        let config = RedisConfig { addrs: vec![format!("127.0.0.1:{}", self.port)], ..RedisConfig::default() };
        let redis = Arc::new(Redis::new(&config).expect("the address is valid"));
        let connection = Arc::clone(&redis);
        runtime.spawn(async move { connection.keep_connected().await });
        runtime.block_on(redis.connected(Duration::from_secs(10)));
        redis
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn owner(number: u128) -> BucketOwner {
    BucketOwner::Key(TenantId::NIL, KeyId::Issued(Uuid::from_u128(number)))
}

/// Two limits with a quota that the benchmark never exhausts.
fn limits() -> [NamedLimit; 2] {
    let quota = NonZeroU64::new(1_000_000_000).expect("the quota is not zero");
    ["default", "burst"].map(|name| NamedLimit { name: name.into(), limit: Limit::new(quota, Duration::from_secs(60)) })
}

fn bench_backend(c: &mut Criterion, runtime: &Runtime, name: &str, backend: &dyn Backend) {
    let limits = limits();
    for (limits, text) in [(&limits[..1], "one limit"), (&limits[..], "two limits")] {
        let charge = Charge { owner: owner(1), limits, cost: 1 };
        c.bench_function(&format!("{name}, {text}"), |b| {
            b.iter(|| {
                let decision = runtime.block_on(backend.charge(black_box(&charge))).expect("Redis is up");
                assert!(decision.admitted);
            });
        });
    }
}

fn ratelimit(c: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("the runtime is built");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    bench_backend(c, &runtime, "in this process", &Local::new(OWNERS_MAX, Arc::clone(&clock)));

    let many = Local::new(OWNERS_MAX, Arc::clone(&clock));
    let (limits, mut number) = (limits(), 0);
    c.bench_function("in this process, one of 100000 keys", |b| {
        b.iter(|| {
            number = (number + 7919) % 100_000;
            many.charge(&Charge { owner: owner(number), limits: &limits[..1], cost: 1 })
        });
    });

    let server = Server::start();
    let store: Arc<dyn BucketStore> = Arc::new(RedisBucketStore::new(server.connect(&runtime)));
    bench_backend(c, &runtime, "in Redis", &Exact::new(Arc::clone(&store)));
    let (leased, worker) = Leased::new(store, clock, Arc::new(Nodes::alone()), OWNERS_MAX);
    runtime.spawn(worker.run());
    bench_backend(c, &runtime, "leased from Redis", &*leased);
}

criterion_group!(benches, ratelimit);
criterion_main!(benches);
