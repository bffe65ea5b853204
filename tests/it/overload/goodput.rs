//! An overload of four times what the upstream can do: it is served as much as without overload, and the rest of the process goes on.

use std::time::{Duration, Instant};

use keygate_test_servers::WAIT_TIMEOUT;
use serde_json::json;

use super::clients::{Clients, GRPC, PLAIN, shed, shed_because};
use super::slots::Slots;
use crate::support::keygate::Keygate;
use crate::support::memory::anonymous;
use crate::support::wait::is_machine_quiet;

/// What the upstream can serve at the same time. With 20 ms for each request, that is 500 requests per second.
const SLOTS: usize = 10;
/// Ten of them are served and ten wait. The other ones send about 40 / 20 ms = 2,000 requests per second that are refused.
const CLIENTS: usize = 60;
/// The share of the peak that is served in overload.
const GOODPUT: f64 = 0.8;
/// How fast the admin API and health answer in overload, 99 of 100 requests.
const ADMIN_LATENCY: Duration = Duration::from_millis(100);
const PEAK_TIME: Duration = Duration::from_secs(1);
const OVERLOAD_TIME: Duration = Duration::from_secs(3);
/// How much the memory may grow in overload, in KiB. The 50 more connections have buffers of less than 64 KiB each for a head and for a
/// response, which is 6 MiB in all. The rest is for pages of the allocator, of which each thread takes one of up to 512 KiB for each size
/// that it allocates: 12 to 18 MiB were measured in all, and no more after ten overloads in a row.
const GROWTH: usize = 32 * 1024;

/// Requests of an administrator and a health check, one after another, for a time; the latency that 99 of 100 do not exceed.
async fn admin_latency(keygate: &Keygate, time: Duration) -> Duration {
    let began = Instant::now();
    let urls = [format!("{}/v2alpha1/admin/issuedApiKeys", keygate.admin), format!("{}/health/alive", keygate.metrics)];
    let mut latencies = Vec::new();
    while began.elapsed() < time {
        for url in &urls {
            let sent = Instant::now();
            let response = keygate.http.get(url).send().await.unwrap();
            assert_eq!(response.status(), 200, "{url}");
            response.bytes().await.unwrap();
            latencies.push(sent.elapsed());
        }
        // The pause between two looks.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

/// One measurement. Fails with what was measured if the machine, or Keygate, is too slow.
async fn measure(keygate: &Keygate) -> Result<String, String> {
    let clients = Clients::start(keygate, [PLAIN; SLOTS]);
    // All have connected, and the gateway has its connections to the upstream.
    clients.rates(PEAK_TIME / 4).await;
    let peak = clients.rates(PEAK_TIME).await;
    clients.stop().await;
    let (memory, shed_before) = (anonymous(keygate.process.id()), shed(keygate).await);
    let requests = (0..CLIENTS).map(|number| if number % 10 == 0 { GRPC } else { PLAIN });
    let clients = Clients::start(keygate, requests);
    let (overload, latency) = tokio::join!(clients.rates(OVERLOAD_TIME), admin_latency(keygate, OVERLOAD_TIME));
    let grown = anonymous(keygate.process.id()).saturating_sub(memory);
    let received = clients.stop().await;
    // These hold on a slow machine as well.
    assert!(grown < GROWTH, "the memory has grown by {grown} KiB");
    assert!(received.refused > 0, "{received:?}");
    let counted = shed(keygate).await - shed_before;
    assert_eq!(counted, received.refused as u64, "each refusal is counted by its reason");
    let offered = (overload.served + overload.refused) / peak.served;
    let report = format!("{offered:.1} times the peak: {overload:?} of {peak:?}, {latency:?}, {grown} KiB");
    if overload.served > peak.served * GOODPUT && latency < ADMIN_LATENCY { Ok(report) } else { Err(report) }
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_served_at_the_peak_and_administration_goes_on() {
    let upstream = Slots::start(SLOTS).await;
    let keygate = Keygate::serve(
        &json!({
            "overload": {"max_in_flight": 40},
            "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
            "upstreams": {"api": {
                "endpoints": [upstream.url],
                "pool": {"max_requests": SLOTS, "max_waiting": SLOTS, "wait_timeout": "1s"},
            }},
        }),
        &json!({}),
    );
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        match measure(&keygate).await {
            Ok(report) => {
                println!("overload: {report}");
                break;
            }
            Err(report) if Instant::now() > deadline => {
                // Other programs may take the time of this one for longer.
                assert!(!is_machine_quiet().await, "{report}");
                println!("the machine is busy: {report}");
                break;
            }
            Err(_) => {}
        }
    }
    assert!(shed_because(&keygate, "max_waiting").await > 0);
}
