use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn admission(max: usize, max_per_client: usize, max_pending: usize) -> (Admission, prometheus::Registry) {
    let registry = prometheus::Registry::new();
    let metrics = ConnectionMetrics::register(&registry).unwrap();
    let caps = ConnectionsConfig { max, max_per_client, max_pending };
    let exempt = CidrSet::parse(&["10.0.0.0/8"]).unwrap();
    (Admission::new("test", caps, exempt, &metrics), registry)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn text(registry: &prometheus::Registry) -> String {
    prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
}

#[test]
fn client_and_pending_caps_refuse() {
    let (admission, registry) = admission(100, 2, 3);
    let _a = admission.admit(Some(address("2001:db8::1"))).unwrap();
    let b = admission.admit(Some(address("2001:db8::2"))).unwrap();
    assert_eq!(admission.admit(Some(address("2001:db8::3"))).unwrap_err(), Refused::MaxPerClient);
    let _other = admission.admit(Some(address("2001:db8:0:1::1"))).unwrap();
    assert_eq!(admission.admit(None).unwrap_err(), Refused::MaxPending);
    assert!(b.set_active());
    let _unix = admission.admit(None).unwrap();
    drop(b);
    let metrics = text(&registry);
    for line in [
        r#"keygate_connections{listener="test",state="pending"} 3"#,
        r#"keygate_connections{listener="test",state="active"} 0"#,
        r#"keygate_connections_refused_total{listener="test",reason="max"} 0"#,
        r#"keygate_connections_refused_total{listener="test",reason="max_per_client"} 1"#,
        r#"keygate_connections_refused_total{listener="test",reason="max_pending"} 1"#,
        r#"keygate_connections_evicted_total{listener="test"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn exempt_peer_is_counted_for_the_client_that_it_names() {
    let (admission, _registry) = admission(100, 1, 100);
    let mut first = admission.admit(Some(address("10.1.1.1"))).unwrap();
    let mut second = admission.admit(Some(address("10.1.1.1"))).unwrap();
    first.set_client("192.0.2.1".parse().unwrap()).unwrap();
    first.set_client("192.0.2.1".parse().unwrap()).unwrap();
    assert_eq!(second.set_client("192.0.2.1".parse().unwrap()), Err(Refused::MaxPerClient));
    assert_eq!(admission.admit(Some(address("192.0.2.1"))).unwrap_err(), Refused::MaxPerClient);
    drop(first);
    second.set_client("192.0.2.1".parse().unwrap()).unwrap();
}

#[tokio::test]
async fn connection_that_was_idle_longest_makes_room() {
    let (admission, registry) = admission(3, 100, 100);
    let start = Instant::now();
    let open: Vec<_> = (0..3).map(|_| admission.admit(None).unwrap()).collect();
    assert_eq!(admission.admit(None).unwrap_err(), Refused::Max, "pending connections are not evicted");
    for (connection, millis) in open.iter().zip([30, 10, 20]) {
        assert!(connection.set_active());
        assert!(connection.set_idle_at(start + Duration::from_millis(millis)));
    }
    // The order knows 10 ms of the second one.
    assert!(open[1].set_active() && open[1].set_idle_at(start + Duration::from_millis(40)));
    let waiting = open[2].evicted();
    let new = admission.admit(None).unwrap();
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    assert_eq!(open.iter().map(Admitted::is_evicted).collect::<Vec<_>>(), [false, false, true]);
    assert!(!open[2].set_active() && !open[2].set_idle());
    assert_eq!(admission.admit(None).unwrap_err(), Refused::Max, "one evicted connection of three may stay open");
    let metrics = text(&registry);
    assert!(metrics.contains(r#"keygate_connections{listener="test",state="closing"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"keygate_connections_evicted_total{listener="test"} 1"#), "{metrics}");
    drop(open);
    drop(new);
    assert_eq!(admission.0.table().sizes(), [0; 4]);
}

#[tokio::test]
async fn eviction_wakes_a_task_that_waits() {
    let (admission, _registry) = admission(1, 100, 100);
    let idle = admission.admit(None).unwrap();
    assert!(idle.set_active() && idle.set_idle());
    let waiting = tokio::spawn(async move { idle.evicted().await });
    tokio::task::yield_now().await;
    let _new = admission.admit(None).unwrap();
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
}

#[test]
fn concurrent_changes_leave_nothing_behind() {
    let (admission, _registry) = admission(8, 100, 100);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..5_000 {
                    let Ok(connection) = admission.admit(Some(address("192.0.2.1"))) else { continue };
                    let kept = admission.admit(None).ok();
                    for _ in 0..round % 3 {
                        let is_open = connection.set_active() && connection.set_idle();
                        assert!(is_open || connection.is_evicted());
                    }
                    drop(kept);
                }
            });
        }
    });
    assert_eq!(admission.0.table().sizes(), [0; 4]);
    assert_eq!(admission.0.pending.load(Ordering::Acquire), 0);
}

/// An entry of the memory is small enough to be ignored beside the rest of a connection.
#[test]
fn connection_needs_little_memory() {
    // The slot with the counters of its Arc, the guard, an entry of the table, one of the clients and one of the order; tables are at most
    // half empty.
    let slot = size_of::<Slot>() + 2 * size_of::<usize>();
    let table = 16 + size_of::<usize>() + size_of::<(IpAddr, usize)>() + 1 + size_of::<(u64, usize)>();
    assert!(slot + size_of::<Admitted>() + 2 * table < 300, "{slot} {} {table}", size_of::<Admitted>());
}

/// A step of the property test. Numbers select a connection or a client.
#[derive(Debug, Clone, Copy)]
enum Step {
    Admit(u8),
    Active(usize),
    Idle(usize),
    Close(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ModelState {
    Pending,
    Active,
    Idle(u64),
    Evicted,
}

type ModelConnection = (usize, Option<u8>, ModelState);

/// The plain model: a list of connections.
struct Model {
    caps: ConnectionsConfig,
    /// Numbers, clients and states.
    open: Vec<ModelConnection>,
}

impl Model {
    fn admit(&mut self, id: usize, client: Option<u8>) -> Result<Option<usize>, Refused> {
        let evicted = |state: &ModelState| *state == ModelState::Evicted;
        let count = |condition: &dyn Fn(&ModelConnection) -> bool| {
            self.open.iter().filter(|connection| condition(connection)).count()
        };
        if client.is_some() && count(&|(_, of, _)| *of == client) >= self.caps.max_per_client {
            return Err(Refused::MaxPerClient);
        }
        if count(&|(_, _, state)| *state == ModelState::Pending) >= self.caps.max_pending {
            return Err(Refused::MaxPending);
        }
        let mut victim = None;
        if count(&|(_, _, state)| !evicted(state)) >= self.caps.max {
            if count(&|(_, _, state)| evicted(state)) >= self.caps.max.div_ceil(CLOSING) {
                return Err(Refused::Max);
            }
            let idle = self.open.iter_mut().filter_map(|(id, _, state)| match state {
                ModelState::Idle(since) => Some((*since, *id, state)),
                _ => None,
            });
            let (_, id, state) = idle.min_by_key(|(since, ..)| *since).ok_or(Refused::Max)?;
            *state = ModelState::Evicted;
            victim = Some(id);
        }
        self.open.push((id, client, ModelState::Pending));
        Ok(victim)
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u8).prop_map(Step::Admit),
        3 => any::<usize>().prop_map(Step::Active),
        5 => any::<usize>().prop_map(Step::Idle),
        1 => any::<usize>().prop_map(Step::Close),
    ]
}

proptest! {
    #[test]
    fn bookkeeping_equals_that_of_a_plain_model(
        caps in (1..40_usize, 1..20_usize, 1..20_usize),
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let (admission, _registry) = admission(caps.0, caps.1, caps.2);
        let mut model = Model { caps: *admission.caps(), open: Vec::new() };
        let mut real = HashMap::new();
        let start = admission.0.started;
        for (time, step) in steps.into_iter().enumerate() {
            let selected = |number: usize| number.checked_rem(model.open.len());
            match step {
                Step::Admit(client) => {
                    // The client 0 is a Unix socket.
                    let client = (client > 0).then_some(client);
                    let expected = model.admit(time, client);
                    let admitted = admission.admit(client.map(|client| IpAddr::from([192, 0, 2, client])));
                    prop_assert_eq!(admitted.as_ref().err(), expected.as_ref().err());
                    if let (Ok(admitted), Ok(evicted)) = (admitted, expected) {
                        real.insert(time, admitted);
                        prop_assert!(evicted.is_none_or(|evicted: usize| real[&evicted].is_evicted()));
                    }
                }
                Step::Active(number) => if let Some(index) = selected(number) {
                    let (id, _, state) = &mut model.open[index];
                    let is_open = *state != ModelState::Evicted;
                    prop_assert_eq!(real[id].set_active(), is_open);
                    *state = if is_open { ModelState::Active } else { *state };
                },
                Step::Idle(number) => if let Some(index) = selected(number) {
                    let (id, _, state) = &mut model.open[index];
                    let is_open = *state != ModelState::Evicted;
                    let micros = u64::try_from(time).unwrap();
                    prop_assert_eq!(real[id].set_idle_at(start + Duration::from_micros(micros)), is_open);
                    *state = if is_open { ModelState::Idle(micros) } else { *state };
                },
                Step::Close(number) => if let Some(index) = selected(number) {
                    let (id, ..) = model.open.swap_remove(index);
                    real.remove(&id);
                },
            }
            let counts = admission.0.counts();
            let expected = model.open.iter().fold(Counts::default(), |mut counts, (_, _, state)| {
                match state {
                    ModelState::Pending => counts.pending += 1,
                    ModelState::Active => counts.active += 1,
                    ModelState::Idle(_) => counts.idle += 1,
                    ModelState::Evicted => counts.closing += 1,
                }
                counts
            });
            prop_assert_eq!(counts, expected);
            prop_assert_eq!(admission.0.pending.load(Ordering::Acquire), usize::try_from(expected.pending).unwrap());
            prop_assert_eq!(model.open.len(), real.len());
        }
    }
}
