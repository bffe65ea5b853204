//! The rule of invalidations, tried in every order of its steps: a model of one key with the steps of [`super::KeyCache`], in which
//! what happens between two steps of one actor may be any steps of the others.

use super::singleflight::MinVersion;

/// What is stored and cached of the key.
#[derive(Clone, Default)]
struct World {
    stored: Option<u64>,
    record: Option<u64>,
    absent: bool,
    /// The min_version of the read under way, if there is one.
    call: Option<MinVersion>,
    /// While a reader keeps what it has found, no min_version can be raised.
    with_lock: bool,
    actors: Vec<Actor>,
}

#[derive(Clone)]
enum Actor {
    Reader { step: u8, before: MinVersion, loaded: Option<u64>, held: Option<u64> },
    Writer { step: u8, change: Change },
}

/// A change, on this node or another one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// The version it made.
    Made(u64),
    /// A deletion, and the last version.
    Deleted(u64),
}

impl Change {
    fn stored(self) -> Option<u64> {
        match self {
            Self::Made(version) => Some(version),
            Self::Deleted(_) => None,
        }
    }

    fn min_version(self) -> MinVersion {
        match self {
            Self::Made(version) => MinVersion::changed(version),
            Self::Deleted(version) => MinVersion::deleted(version),
        }
    }
}

fn reader() -> Actor {
    Actor::Reader { step: 0, before: MinVersion::changed(0), loaded: None, held: None }
}

impl World {
    fn new(stored: Option<u64>, readers: usize, changes: &[Change]) -> Self {
        let writers = changes.iter().map(|change| Actor::Writer { step: 0, change: *change });
        let actors = (0..readers).map(|_| reader()).chain(writers).collect();
        Self { stored, actors, ..Self::default() }
    }

    /// Whether an actor has steps left that it can make now.
    fn can_step(&self, index: usize) -> bool {
        match &self.actors[index] {
            // Whoever wants the same key waits for the read under way and shares its answer.
            Actor::Reader { step: 0, .. } => self.call.is_none(),
            Actor::Reader { step, .. } => *step < 6,
            Actor::Writer { step: 0, change } => self.comes_next(*change),
            Actor::Writer { step: 1, .. } => !self.with_lock,
            Actor::Writer { step, .. } => *step < 4,
        }
    }

    /// The store takes changes in the order of their versions; a deletion comes after what it deletes.
    fn comes_next(&self, change: Change) -> bool {
        let rank = |change: Change| change.min_version();
        let waiting = self.actors.iter().filter_map(|actor| match actor {
            Actor::Writer { step: 0, change } => Some(*change),
            _ => None,
        });
        waiting.min_by_key(|change| rank(*change)) == Some(change)
    }

    fn is_outdated(&self, before: MinVersion, version: Option<u64>) -> bool {
        self.call.is_some_and(|min_version| min_version != before && !min_version.admits(version))
    }

    /// What was held a step ago tells whether the record goes in, whatever is held now.
    fn remember(&mut self, version: Option<u64>, held: Option<u64>) {
        match version {
            Some(version) if held.is_none_or(|held| held <= version) => self.record = Some(version),
            Some(_) => {}
            None => (self.record, self.absent) = (None, true),
        }
    }

    fn drop_below(&mut self, version: u64) {
        self.record = self.record.filter(|held| *held >= version);
    }

    fn step(&mut self, index: usize) {
        let mut actor = self.actors[index].clone();
        match &mut actor {
            Actor::Reader { step, before, loaded, held } => self.step_reader(step, before, loaded, held),
            Actor::Writer { step, change } => self.step_writer(step, *change),
        }
        self.actors[index] = actor;
    }

    fn step_reader(
        &mut self,
        step: &mut u8,
        before: &mut MinVersion,
        loaded: &mut Option<u64>,
        held: &mut Option<u64>,
    ) {
        match *step {
            0 => self.call = Some(MinVersion::changed(0)),
            1 => *before = self.call.unwrap(),
            2 => *loaded = self.stored,
            3 if self.is_outdated(*before, *loaded) => *step = 0,
            3 => (*held, self.with_lock) = (self.record, true),
            4 => {
                self.remember(*loaded, *held);
                self.with_lock = false;
            }
            _ => self.call = None,
        }
        *step += 1;
    }

    fn step_writer(&mut self, step: &mut u8, change: Change) {
        match (*step, change) {
            (0, _) => self.stored = change.stored(),
            (1, _) => self.call = self.call.map(|min_version| min_version.max(change.min_version())),
            (2, Change::Made(_)) => self.absent = false,
            (_, Change::Made(version)) => self.drop_below(version),
            (2, Change::Deleted(version)) => self.drop_below(version + 1),
            (_, Change::Deleted(_)) => {}
        }
        *step += 1;
    }

    fn heard(&self) -> impl Iterator<Item = Change> {
        self.actors.iter().filter_map(|actor| match actor {
            Actor::Writer { step: 4, change } => Some(*change),
            _ => None,
        })
    }

    /// No record is older than a change that this node has heard of.
    fn check(&self) {
        if let Some(version) = self.record {
            for change in self.heard() {
                assert!(change.min_version().admits(Some(version)), "{version} is cached after {change:?}");
            }
        }
    }

    /// Once all is quiet, what is cached is what is stored.
    fn check_end(&self) {
        assert!(self.record.is_none_or(|version| self.stored == Some(version)), "{:?}", (self.record, self.stored));
        let absent = self.record.is_none() && self.absent;
        assert!(!absent || self.stored.is_none(), "absent is cached, and {:?} stored", self.stored);
    }
}

/// Every order of the steps; the number of ends that were reached.
fn explore(world: &World, orders: &mut u64) {
    world.check();
    let mut revoked = true;
    for index in 0..world.actors.len() {
        if world.can_step(index) {
            revoked = false;
            let mut next = world.clone();
            next.step(index);
            explore(&next, orders);
        }
    }
    if revoked {
        world.check_end();
        *orders += 1;
    }
}

#[test]
fn no_order_of_steps_leaves_what_a_change_replaced() {
    use Change::{Deleted, Made};
    let mut orders = 0;
    for (stored, changes) in [
        (Some(1), &[Made(2)][..]),
        (Some(1), &[Deleted(1)]),
        (None, &[Made(1)]),
        (Some(1), &[Made(2), Made(3)]),
        (Some(1), &[Made(2), Deleted(2)]),
        (Some(1), &[Deleted(1), Made(2)]),
        (None, &[Made(1), Deleted(1)]),
    ] {
        for readers in 1..=2 {
            // Two of each at once are too many orders for a test; two readers meet one change.
            if readers + changes.len() <= 3 {
                explore(&World::new(stored, readers, changes), &mut orders);
            }
        }
    }
    assert!(orders > 10_000, "only {orders} orders were tried");
}
