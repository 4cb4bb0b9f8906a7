//! Small numbers for hops, so that the caller's hot path never handles 128-bit hashes.
//!
//! A number is valid for this process only; the spool knows the hash and the text.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use penstock_spool::{HopId, HopKind, Spool};

/// A next hop as the operator knows it.
#[derive(Clone, Debug)]
pub struct Hop {
    /// What the spool calls it.
    pub id: HopId,
    /// Name of the send connector or accepted domain that leads there.
    pub connector: String,
    /// How it is reached.
    pub kind: HopKind,
    /// Where it is.
    pub destination: String,
}

#[derive(Default)]
struct Table {
    by_id: HashMap<HopId, u32>,
    rows: Vec<Arc<Hop>>,
}

#[derive(Default)]
pub(crate) struct Hops {
    table: RwLock<Table>,
}

impl Hops {
    /// The number of a hop; the same for the same three values.
    pub(crate) fn register(&self, spool: &Spool, connector: &str, kind: HopKind, destination: &str) -> u32 {
        let id = spool.register_hop(connector, kind, destination);
        if let Some(&number) = self.table.read().by_id.get(&id) {
            return number;
        }
        let mut table = self.table.write();
        if let Some(&number) = table.by_id.get(&id) {
            return number;
        }
        table.rows.push(Arc::new(Hop {
            id,
            connector: connector.into(),
            kind,
            destination: destination.into(),
        }));
        let number = table.rows.len() as u32;
        table.by_id.insert(id, number);
        number
    }

    pub(crate) fn get(&self, number: u32) -> Option<Arc<Hop>> {
        self.table.read().rows.get((number as usize).checked_sub(1)?).cloned()
    }

    pub(crate) fn id(&self, number: u32) -> Option<HopId> {
        self.table.read().rows.get((number as usize).checked_sub(1)?).map(|hop| hop.id)
    }

    pub(crate) fn number(&self, id: HopId) -> Option<u32> {
        self.table.read().by_id.get(&id).copied()
    }
}
