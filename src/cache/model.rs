//! A model of one key that tries all interleavings: a reader and a writer take the steps of [`super::KeyCache`], the shared cache and
//! [`super::Caches::apply`], and between two steps of one actor the others may take any number of theirs.

use std::collections::HashMap;

use super::caches::{ORDER, Target};
use super::singleflight::MinVersion;

/// All state of the key: what is stored, what is cached, and how far each actor has come.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct World {
    stored: Option<u64>,
    /// The entry in Redis.
    shared: Option<SharedEntry>,
    /// The lowest version that this node takes from Redis.
    shared_min_version: u64,
    record: Option<u64>,
    absent: bool,
    /// The minimum version of the read in progress, if there is one.
    call: Option<MinVersion>,
    /// While a reader stores its result, no minimum version can be raised.
    locked: bool,
    actors: Vec<Actor>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct SharedEntry {
    version: u64,
    is_tombstone: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Actor {
    Reader(Reader),
    Writer { step: usize, change: Change },
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Reader {
    step: Step,
    /// The minimum version when the read started.
    before: MinVersion,
    /// What Redis answered.
    answer: Option<SharedEntry>,
    loaded: Option<u64>,
    from_shared: bool,
    /// A result was refused, so that the next one comes from the store.
    refused: bool,
    /// What was cached when the result was about to be stored.
    current: Option<u64>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Step {
    #[default]
    Join,
    Begin,
    ReadShared,
    CheckShared,
    ReadStore,
    WriteShared,
    Check,
    Store,
    Leave,
    Done,
}

/// A change, on this node or another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Change {
    /// The version it made.
    Made(u64),
    /// A deletion, and the last version.
    Deleted(u64),
}

/// One step of a writer.
#[derive(Clone, Copy, PartialEq)]
enum Write {
    Commit,
    InvalidateShared,
    RaiseMinVersion,
    RemoveAbsent,
    RemoveRecord,
    PutShared,
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

    /// What the writer writes to Redis. Its version is the lowest that counts.
    fn shared(self) -> SharedEntry {
        match self {
            Self::Made(version) => SharedEntry { version, is_tombstone: false },
            Self::Deleted(version) => SharedEntry { version: version + 1, is_tombstone: true },
        }
    }
}

/// The steps of a writer that applies a change to the caches in this order.
fn writes(order: [Target; 3]) -> Vec<Write> {
    let mut writes = vec![Write::Commit];
    for target in order {
        match target {
            Target::Shared => writes.push(Write::InvalidateShared),
            Target::Local => writes.extend([Write::RaiseMinVersion, Write::RemoveAbsent, Write::RemoveRecord]),
            // No reader of records looks at it.
            Target::RevokedParents => {}
        }
    }
    writes.push(Write::PutShared);
    writes
}

impl World {
    /// A key that is stored in this version, and in the shared cache too.
    fn new(stored: Option<u64>, readers: usize, changes: &[Change]) -> Self {
        let writers = changes.iter().map(|change| Actor::Writer { step: 0, change: *change });
        let actors = (0..readers).map(|_| Actor::Reader(Reader::default())).chain(writers).collect();
        let shared = stored.map(|version| SharedEntry { version, is_tombstone: false });
        Self { stored, shared, actors, ..Self::default() }
    }

    /// Whether an actor can take its next step now.
    fn can_step(&self, index: usize, writes: &[Write]) -> bool {
        match &self.actors[index] {
            // Concurrent reads of a key wait for the read in progress and share its result.
            Actor::Reader(Reader { step: Step::Join, .. }) => self.call.is_none(),
            Actor::Reader(reader) => reader.step != Step::Done,
            Actor::Writer { step, change } => match writes.get(*step) {
                Some(Write::Commit) => self.comes_next(*change),
                Some(Write::RaiseMinVersion) => !self.locked,
                Some(_) => true,
                None => false,
            },
        }
    }

    /// The store commits changes in the order of their versions; a deletion comes after what it deletes.
    fn comes_next(&self, change: Change) -> bool {
        let waiting = self.actors.iter().filter_map(|actor| match actor {
            Actor::Writer { step: 0, change } => Some(*change),
            _ => None,
        });
        waiting.min_by_key(|change| change.min_version()) == Some(change)
    }

    fn is_outdated(&self, before: MinVersion, version: Option<u64>) -> bool {
        self.call.is_some_and(|min_version| min_version != before && !min_version.admits(version))
    }

    /// Stores the result of a read. Whether it is stored depends on what was cached one step earlier, whatever is cached now.
    fn store(&mut self, version: Option<u64>, current: Option<u64>) {
        match version {
            Some(version) if current.is_none_or(|current| current <= version) => self.record = Some(version),
            Some(_) => {}
            None => (self.record, self.absent) = (None, true),
        }
    }

    /// Redis keeps the newer entry.
    fn write_shared(&mut self, entry: SharedEntry) {
        if self.shared.is_none_or(|current| current.version <= entry.version) {
            self.shared = Some(entry);
        }
    }

    fn step(&mut self, index: usize, writes: &[Write]) {
        let mut actor = self.actors[index].clone();
        match &mut actor {
            Actor::Reader(reader) => self.step_reader(reader),
            Actor::Writer { step, change } => {
                self.step_writer(writes[*step], *change);
                *step += 1;
            }
        }
        self.actors[index] = actor;
    }

    fn step_reader(&mut self, reader: &mut Reader) {
        reader.step = match reader.step {
            Step::Join => {
                self.call = Some(MinVersion::default());
                Step::Begin
            }
            Step::Begin => {
                reader.before = self.call.unwrap();
                if reader.refused { Step::ReadStore } else { Step::ReadShared }
            }
            Step::ReadShared => {
                reader.answer = self.shared;
                if reader.answer.is_some() { Step::CheckShared } else { Step::ReadStore }
            }
            Step::CheckShared => match reader.answer.take().filter(|entry| entry.version >= self.shared_min_version) {
                Some(entry) => {
                    reader.loaded = (!entry.is_tombstone).then_some(entry.version);
                    Step::Check
                }
                None => Step::ReadStore,
            },
            Step::ReadStore => {
                reader.loaded = self.stored;
                Step::WriteShared
            }
            Step::WriteShared => {
                if let Some(version) = reader.loaded {
                    self.write_shared(SharedEntry { version, is_tombstone: false });
                }
                Step::Check
            }
            Step::Check if self.is_outdated(reader.before, reader.loaded) => {
                reader.refused = true;
                Step::Begin
            }
            Step::Check => {
                (reader.current, self.locked) = (self.record, true);
                Step::Store
            }
            Step::Store => {
                self.store(reader.loaded, reader.current);
                self.locked = false;
                Step::Leave
            }
            Step::Leave | Step::Done => {
                self.call = None;
                Step::Done
            }
        };
    }

    fn step_writer(&mut self, write: Write, change: Change) {
        match (write, change) {
            (Write::Commit, _) => self.stored = change.stored(),
            (Write::InvalidateShared, _) => {
                self.shared_min_version = self.shared_min_version.max(change.shared().version);
            }
            (Write::RaiseMinVersion, _) => {
                self.call = self.call.map(|min_version| min_version.max(change.min_version()));
            }
            (Write::RemoveAbsent, Change::Made(_)) => self.absent = false,
            // That the key is absent stays true.
            (Write::RemoveAbsent, Change::Deleted(_)) => {}
            (Write::RemoveRecord, _) => {
                self.record = self.record.filter(|version| *version >= change.shared().version);
            }
            (Write::PutShared, _) => self.write_shared(change.shared()),
        }
    }

    /// The changes that are applied to all caches of this node.
    fn applied(&self, writes: &[Write]) -> impl Iterator<Item = Change> {
        let applied = writes.len() - 1;
        self.actors.iter().filter_map(move |actor| match actor {
            Actor::Writer { step, change } if *step >= applied => Some(*change),
            _ => None,
        })
    }

    /// No cache gives a record that is older than an applied change.
    fn check(&self, writes: &[Write]) -> Result<(), String> {
        let shared = self.shared.filter(|entry| entry.version >= self.shared_min_version && !entry.is_tombstone);
        for change in self.applied(writes) {
            for (cache, version) in [("local", self.record), ("shared", shared.map(|entry| entry.version))] {
                if version.is_some_and(|version| !change.min_version().admits(Some(version))) {
                    return Err(format!("the {cache} cache gives version {version:?} after {change:?} was applied"));
                }
            }
        }
        Ok(())
    }

    /// Once every actor is done, what is cached is what is stored.
    fn check_end(&self) -> Result<(), String> {
        if self.record.is_some() && self.record != self.stored {
            return Err(format!("version {:?} is cached, {:?} is stored", self.record, self.stored));
        }
        if self.record.is_none() && self.absent && self.stored.is_some() {
            return Err(format!("the key is cached as absent, version {:?} is stored", self.stored));
        }
        Ok(())
    }
}

/// Tries every order of the steps; the number of orders, or what is wrong in the first one that fails. `known` has the worlds that
/// were tried before.
fn explore(world: &World, writes: &[Write], known: &mut HashMap<World, u64>) -> Result<u64, String> {
    if let Some(orders) = known.get(world) {
        return Ok(*orders);
    }
    world.check(writes)?;
    let mut orders = 0;
    for index in 0..world.actors.len() {
        if world.can_step(index, writes) {
            let mut next = world.clone();
            next.step(index, writes);
            orders += explore(&next, writes, known)?;
        }
    }
    if orders == 0 {
        world.check_end()?;
        orders = 1;
    }
    known.insert(world.clone(), orders);
    Ok(orders)
}

/// Explores readers that meet changes which are applied in this order.
fn explore_all(order: [Target; 3]) -> Result<u64, String> {
    use Change::{Deleted, Made};
    let mut orders = 0;
    for (stored, changes) in [
        (Some(1), &[Made(2)][..]),
        (Some(1), &[Deleted(1)]),
        (None, &[Made(1)]),
        (Some(1), &[Made(2), Made(3)]),
        (Some(1), &[Made(2), Deleted(2)]),
        // A key that is imported again has the time as its version, which is above that of the tombstone.
        (Some(1), &[Deleted(1), Made(3)]),
        (None, &[Made(1), Deleted(1)]),
    ] {
        for readers in 1..=2 {
            let world = World::new(stored, readers, changes);
            orders += explore(&world, &writes(order), &mut HashMap::new())?;
        }
    }
    Ok(orders)
}

#[test]
fn no_interleaving_leaves_a_record_that_a_change_replaced() {
    let orders = explore_all(ORDER).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(orders > 10_000, "only {orders} orders were tried");
}

#[test]
fn invalidating_the_local_cache_before_the_shared_one_brings_a_deleted_key_back() {
    let local_first = [Target::Local, Target::RevokedParents, Target::Shared];
    let world = World::new(Some(1), 1, &[Change::Deleted(1)]);
    let fault = explore(&world, &writes(local_first), &mut HashMap::new()).unwrap_err();
    assert_eq!(fault, "the local cache gives version Some(1) after Deleted(1) was applied");
    assert!(explore_all(local_first).is_err());
}
