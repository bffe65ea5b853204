//! Where the connections of a listener run: on one of several runtimes, each time the one with the fewest connections.

use std::sync::Arc;

use tokio::runtime::Handle;

/// A runtime for connections. Clones are for the same runtime and count together.
#[derive(Debug, Clone)]
pub struct Place {
    handle: Handle,
    /// Counted by its references: one for this and each clone, one for each connection.
    connections: Arc<()>,
}

impl Place {
    /// A runtime without connections.
    pub fn new(handle: Handle) -> Self {
        Self { handle, connections: Arc::new(()) }
    }

    /// The runtime.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The place with the fewest connections; `None` if there are no places.
    pub(super) fn emptiest(places: &[Self]) -> Option<&Self> {
        places.iter().min_by_key(|place| Arc::strong_count(&place.connections))
    }

    /// Counts a connection until the future has ended.
    pub(super) fn counting<F: Future<Output = ()>>(&self, connection: F) -> impl Future<Output = ()> + use<F> {
        let counted = Arc::clone(&self.connections);
        async move {
            connection.await;
            drop(counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_go_where_the_fewest_are() {
        let places = [Place::new(Handle::current()), Place::new(Handle::current())];
        let connect = || Place::emptiest(&places).unwrap().counting(std::future::pending());
        let mut connections = vec![connect(), connect(), connect()];
        let count = |index: usize| Arc::strong_count(&places[index].connections) - 1;
        assert_eq!((count(0), count(1)), (2, 1));
        drop(connections.remove(0));
        drop(connections.remove(1));
        assert_eq!((count(0), count(1)), (0, 1));
        connections.push(connect());
        assert_eq!((count(0), count(1)), (1, 1));
        assert!(Place::emptiest(&[]).is_none());
    }
}
