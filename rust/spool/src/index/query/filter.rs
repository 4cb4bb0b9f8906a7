//! The filter: a tree over properties. Its types are checked when it is built, so that running it cannot fail on them.
//!
//! Every comparison is true or false: with what a row does not have, only `ne` and the question for nothing are true.
//! Of several values (recipients) one is enough; `ne` is true if none is equal.

use std::cmp::Ordering;
use std::fmt;

use crate::index::IndexError;

use super::property::{Cost, Kind, Property, Table};
use super::subject::Subject;
use super::value::{Datum, Pattern, Value, fold};

/// How deep a filter may be.
pub const DEPTH_MAX: usize = 16;
/// How many nodes it may have.
pub const NODES_MAX: usize = 256;
/// How many values all its lists may have together.
pub const LISTED_MAX: usize = 1_000;
/// Octets that a text in it may have.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// Asterisks that a pattern may have.
pub const WILDCARDS_MAX: usize = 16;

/// How a property is compared.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Fits a pattern with asterisks.
    Like,
}

/// A filter as it was written.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Tree {
    /// All of these; true if there is none.
    And(Vec<Tree>),
    /// One of these; false if there is none.
    Or(Vec<Tree>),
    /// Not this.
    Not(Box<Tree>),
    /// The property compares so with the value.
    Compare(Property, Operator, Value),
    /// The property is one of these.
    Among(Property, Vec<Value>),
    /// The row does not have the property.
    IsNull(Property),
}

/// What is wrong with a query, and where in its tree.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct QueryError {
    /// The way to the place, such as `and[2].not`; empty for the whole.
    pub at: String,
    /// What is wrong there.
    pub what: String,
}

impl QueryError {
    /// Something wrong at a place.
    pub fn new(at: &str, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", self.at, self.what) }
    }
}

impl std::error::Error for QueryError {}

/// A filter that can be run.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Filter {
    root: Node,
}

#[derive(Clone, Eq, PartialEq, Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Property, Test),
}

#[derive(Clone, Eq, PartialEq, Debug)]
enum Test {
    Equal(Value),
    /// Less; or equal, if so.
    Less(Value, bool),
    /// Greater; or equal, if so.
    Greater(Value, bool),
    /// In order.
    Among(Vec<Value>),
    Like(Pattern),
    Null,
}

impl Filter {
    /// Check a tree.
    pub fn new(table: Table, tree: &Tree) -> Result<Self, QueryError> {
        let mut builder = Builder { table, nodes: 0, listed: 0, at: String::new() };
        Ok(Self { root: builder.node(tree, DEPTH_MAX)? })
    }

    /// Whether the row is meant.
    pub(super) fn holds(&self, row: &mut impl Subject) -> Result<bool, IndexError> {
        self.root.holds(row)
    }

    /// Whether nothing but the next hop decides.
    pub(super) fn is_of_hop(&self) -> bool {
        self.root.is_of_hop()
    }

    /// Whether all that it asks of the next hop alone holds; the rest is taken to hold.
    pub(super) fn may_hold(&self, hop: &mut impl Subject) -> Result<bool, IndexError> {
        for node in self.conjuncts() {
            if node.is_of_hop() && !node.holds(hop)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it asks anything of the next hop alone.
    pub(super) fn asks_of_hop(&self) -> bool {
        self.conjuncts().iter().any(Node::is_of_hop)
    }

    /// The least and the greatest queue id that it can mean; `None` if it means nothing.
    pub(super) fn queue_ids(&self) -> Option<(u64, u64)> {
        let (mut low, mut high) = (0, u64::MAX);
        for node in self.conjuncts() {
            let (from, to) = match node {
                Node::Test(Property::QueueId, Test::Equal(Value::Number(id))) => (*id, *id),
                Node::Test(Property::QueueId, Test::Less(Value::Number(id), true)) => (0, *id),
                Node::Test(Property::QueueId, Test::Less(Value::Number(id), false)) => {
                    (0, id.checked_sub(1)?)
                }
                Node::Test(Property::QueueId, Test::Greater(Value::Number(id), true)) => (*id, u64::MAX),
                Node::Test(Property::QueueId, Test::Greater(Value::Number(id), false)) => {
                    (id.checked_add(1)?, u64::MAX)
                }
                Node::Test(Property::QueueId, Test::Among(ids)) => match (ids.first(), ids.last()) {
                    (Some(Value::Number(first)), Some(Value::Number(last))) => (*first, *last),
                    _ => return None,
                },
                _ => continue,
            };
            (low, high) = (low.max(from), high.min(to));
        }
        (low <= high).then_some((low, high))
    }

    /// What has to hold all together.
    fn conjuncts(&self) -> &[Node] {
        match &self.root {
            Node::All(nodes) => nodes,
            node => std::slice::from_ref(node),
        }
    }
}

impl Node {
    fn holds(&self, row: &mut impl Subject) -> Result<bool, IndexError> {
        match self {
            Self::All(nodes) => {
                for node in nodes {
                    if !node.holds(row)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Any(nodes) => {
                for node in nodes {
                    if node.holds(row)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Not(node) => Ok(!node.holds(row)?),
            Self::Test(property, test) if property.is_many() => {
                row.any(*property, |text| test.holds(&Datum::text(text)))
            }
            Self::Test(property, test) => Ok(test.holds(&row.datum(*property)?)),
        }
    }

    fn is_of_hop(&self) -> bool {
        match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().all(Self::is_of_hop),
            Self::Not(node) => node.is_of_hop(),
            Self::Test(property, _) => property.is_of_hop(),
        }
    }

    fn cost(&self) -> Cost {
        match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().map(Self::cost).max().unwrap_or(Cost::Hop),
            Self::Not(node) => node.cost(),
            Self::Test(property, _) => property.cost(),
        }
    }
}

impl Test {
    fn holds(&self, datum: &Datum<'_>) -> bool {
        match self {
            Self::Equal(value) => datum.compare(value) == Some(Ordering::Equal),
            Self::Less(value, or_equal) => match datum.compare(value) {
                Some(Ordering::Equal) => *or_equal,
                ordering => ordering == Some(Ordering::Less),
            },
            Self::Greater(value, or_equal) => match datum.compare(value) {
                Some(Ordering::Equal) => *or_equal,
                ordering => ordering == Some(Ordering::Greater),
            },
            Self::Among(values) => {
                let found = values.binary_search_by(|value| {
                    // What cannot be compared is nowhere; the types are those of the property.
                    datum.compare(value).map_or(Ordering::Less, Ordering::reverse)
                });
                found.is_ok()
            }
            Self::Like(pattern) => matches!(datum, Datum::Text(text) if pattern.fits(text)),
            Self::Null => matches!(datum, Datum::Null),
        }
    }
}

/// The cheap ones first: often they spare the others.
fn by_cost(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.sort_by_key(Node::cost);
    nodes
}

struct Builder {
    table: Table,
    nodes: usize,
    listed: usize,
    at: String,
}

impl Builder {
    fn error(&self, what: impl Into<String>) -> QueryError {
        QueryError::new(&self.at, what)
    }

    fn node(&mut self, tree: &Tree, depth: usize) -> Result<Node, QueryError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(self.error(format!("a filter has at most {NODES_MAX} nodes")));
        }
        let Some(below) = depth.checked_sub(1) else {
            return Err(self.error(format!("a filter is at most {DEPTH_MAX} deep")));
        };
        match tree {
            Tree::And(trees) => {
                // What is within another `and` holds for the whole as well.
                let flat = self.nodes(trees, "and", below)?.into_iter().flat_map(|node| match node {
                    Node::All(nodes) => nodes,
                    node => vec![node],
                });
                Ok(Node::All(by_cost(flat.collect())))
            }
            Tree::Or(trees) => Ok(Node::Any(by_cost(self.nodes(trees, "or", below)?))),
            Tree::Not(tree) => Ok(Node::Not(Box::new(self.within(tree, "not", below)?))),
            Tree::IsNull(property) => {
                self.kind(*property)?;
                Ok(Node::Test(*property, Test::Null))
            }
            Tree::Among(property, values) => {
                let kind = self.kind(*property)?;
                self.listed += values.len();
                if self.listed > LISTED_MAX {
                    return Err(self.error(format!("the lists of a filter have at most {LISTED_MAX} values")));
                }
                let values = values.iter().map(|value| self.value(*property, kind, value));
                let mut values = values.collect::<Result<Vec<_>, _>>()?;
                values.sort_unstable();
                Ok(Node::Test(*property, Test::Among(values)))
            }
            Tree::Compare(property, operator, value) => self.compare(*property, *operator, value),
        }
    }

    fn nodes(&mut self, trees: &[Tree], step: &str, depth: usize) -> Result<Vec<Node>, QueryError> {
        trees
            .iter()
            .enumerate()
            .map(|(nth, tree)| self.within(tree, &format!("{step}[{nth}]"), depth))
            .collect()
    }

    fn within(&mut self, tree: &Tree, step: &str, depth: usize) -> Result<Node, QueryError> {
        let length = self.at.len();
        if length > 0 {
            self.at.push('.');
        }
        self.at.push_str(step);
        let node = self.node(tree, depth)?;
        self.at.truncate(length);
        Ok(node)
    }

    fn compare(&self, property: Property, operator: Operator, value: &Value) -> Result<Node, QueryError> {
        let kind = self.kind(property)?;
        if operator == Operator::Like {
            let (Kind::Text, Value::Text(text)) = (kind, value) else {
                return Err(self.error(format!("{} is no text, and has no pattern", property.name())));
            };
            self.text(text)?;
            let pattern = Pattern::new(text);
            if pattern.wildcards() > WILDCARDS_MAX {
                return Err(self.error(format!("a pattern has at most {WILDCARDS_MAX} asterisks")));
            }
            return Ok(Node::Test(property, Test::Like(pattern)));
        }
        let is_ordered = matches!(kind, Kind::Number | Kind::Text);
        if !is_ordered && !matches!(operator, Operator::Eq | Operator::Ne) {
            return Err(self.error(format!("{} has no order", property.name())));
        }
        let value = self.value(property, kind, value)?;
        let is_it = |test| Node::Test(property, test);
        Ok(match operator {
            Operator::Eq | Operator::Like => is_it(Test::Equal(value)),
            Operator::Ne => Node::Not(Box::new(is_it(Test::Equal(value)))),
            Operator::Lt => is_it(Test::Less(value, false)),
            Operator::Le => is_it(Test::Less(value, true)),
            Operator::Gt => is_it(Test::Greater(value, false)),
            Operator::Ge => is_it(Test::Greater(value, true)),
        })
    }

    fn kind(&self, property: Property) -> Result<Kind, QueryError> {
        property.kind(self.table).ok_or_else(|| {
            let rows = match self.table {
                Table::Messages => "messages",
                Table::Queues => "queues",
            };
            self.error(format!("{rows} have no {}", property.name()))
        })
    }

    /// The value as rows have it: texts folded, words by their place.
    fn value(&self, property: Property, kind: Kind, value: &Value) -> Result<Value, QueryError> {
        let wanted = match (kind, value) {
            (Kind::Number, Value::Number(_)) | (Kind::Flag, Value::Flag(_)) | (Kind::Hop, Value::Hop(_)) => {
                return Ok(value.clone());
            }
            (Kind::Text, Value::Text(text)) => {
                self.text(text)?;
                return Ok(Value::Text(fold(text).into_owned()));
            }
            (Kind::Word(words), Value::Text(text)) => {
                let text = fold(text);
                if let Some(place) = words.iter().position(|word| *word == text) {
                    return Ok(Value::Number(place as u64));
                }
                format!("one of {}", words.join(", "))
            }
            (Kind::Number, _) => "a number".into(),
            (Kind::Flag, _) => "yes or no".into(),
            (Kind::Hop, _) => "a hop".into(),
            (Kind::Text, _) => "a text".into(),
            (Kind::Word(words), _) => format!("one of {}", words.join(", ")),
        };
        Err(self.error(format!("{} is {wanted}", property.name())))
    }

    fn text(&self, text: &str) -> Result<(), QueryError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(self.error(format!("a text has at most {TEXT_BYTES_MAX} octets")));
        }
        Ok(())
    }
}
