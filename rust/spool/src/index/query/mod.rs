//! Queries: which messages or queues are meant, in which order, how many, and of what.
//!
//! A [`Query`] is checked when it is made; an [`Execution`] answers it in steps, each within a [`Budget`] and on a
//! snapshot of its own. What this costs:
//!
//! * Only what a filter, an order or a grouping names is read and decoded: of a message its head first, then the rest,
//!   its recipients last. Cheap comparisons are made before dear ones.
//! * A condition on the queue that one hop alone meets makes the messages of that hop be read, not all; one on the queue
//!   id, a range of them. What the counters of hops say (how many, by queue) is taken from there.
//! * A sorted page looks at every row that its filter might mean, and keeps as many places as it has rows.
//!
//! The order of messages is that of their queue ids, and within one that of the hops' ids; so it is whichever table is
//! read, and a place in it, or a sort's values with it, is what a cursor says.

mod budget;
mod cursor;
mod execution;
mod filter;
mod groups;
mod property;
mod question;
mod subject;
mod told;
mod value;

pub use budget::Budget;
pub use cursor::{Cursor, Key, SORTED_BYTES, SORTS_MAX, Sort};
pub use execution::{Execution, TopGroups};
pub use filter::{
    DEPTH_MAX, Filter, LISTED_MAX, NODES_MAX, Operator, QueryError, TEXT_BYTES_MAX, Tree, WILDCARDS_MAX,
};
pub use groups::{GROUPS_MAX, Group, Sum};
pub use property::{Kind, Property, Table};
pub use question::{Query, Standing, TOP_MAX, Want};
pub use told::{QueryRow, RECIPIENTS_TOLD};
pub use value::Value;
