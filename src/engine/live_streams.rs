//! The streams that end with their keys.

use std::sync::Arc;

use prometheus::Registry;

use super::parts::Engine;
use super::tasks::Tasks;
use crate::cache::{ChangeSubscriber, KeyChanges};
use crate::pipeline::live_streams::{LiveStreamMetrics, LiveStreams};

/// Verifies streams again in the background when their keys change.
pub(super) fn start(
    engine: &Engine,
    changes: &KeyChanges,
    registry: &Registry,
    tasks: &mut Tasks,
) -> Result<Arc<LiveStreams>, prometheus::Error> {
    let metrics = LiveStreamMetrics::register(registry)?;
    let streams = Arc::new(LiveStreams::new(Arc::clone(&engine.verifier), metrics));
    changes.subscribe(Arc::<LiveStreams>::clone(&streams) as Arc<dyn ChangeSubscriber>);
    tasks.spawn(Arc::clone(&streams).run());
    Ok(streams)
}
