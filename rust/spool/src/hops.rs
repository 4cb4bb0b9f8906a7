//! The names behind hop ids, so that records can be written with names and callers need not carry them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::edit::Change;
use crate::facts::{Accepted, Fact, HopId, HopKind, HopName};

#[derive(Default)]
pub(crate) struct HopNames(RwLock<HashMap<HopId, Arc<HopName>>>);

impl HopNames {
    /// Remember a name; the same name has the same id for ever.
    pub(crate) fn register(&self, connector: &str, kind: HopKind, destination: &str) -> HopId {
        let name = HopName { connector: connector.into(), kind, destination: destination.into() };
        let id = name.id();
        if !self.0.read().contains_key(&id) {
            self.0.write().insert(id, Arc::new(name));
        }
        id
    }

    /// The name of a hop.
    ///
    /// # Panics
    ///
    /// If it was never registered, which is a bug of the caller.
    pub(crate) fn name(&self, hop: HopId) -> Arc<HopName> {
        named(&self.0.read(), hop)
    }

    /// The names that a record with this message needs.
    ///
    /// # Panics
    ///
    /// If a hop was never registered, which is a bug of the caller.
    pub(crate) fn of_message(&self, accepted: &Accepted) -> Vec<Arc<HopName>> {
        let names = self.0.read();
        accepted.entries.iter().map(|entry| named(&names, entry.hop)).collect()
    }

    /// The names that a record with this fact needs.
    ///
    /// # Panics
    ///
    /// If a hop was never registered, which is a bug of the caller.
    pub(crate) fn of_fact(&self, fact: &Fact) -> Vec<Arc<HopName>> {
        match fact {
            Fact::Routed { to, .. } => {
                let names = self.0.read();
                to.iter().map(|to| named(&names, to.hop)).collect()
            }
            Fact::Hop { hop, .. } => vec![named(&self.0.read(), *hop)],
            Fact::Edited(record) => match &record.change {
                Change::Redirected(to) => vec![named(&self.0.read(), to.hop)],
                _ => Vec::new(),
            },
            Fact::Settled { .. } => Vec::new(),
        }
    }
}

fn named(names: &HashMap<HopId, Arc<HopName>>, hop: HopId) -> Arc<HopName> {
    Arc::clone(names.get(&hop).expect("invariant: a hop is registered before it is named"))
}
