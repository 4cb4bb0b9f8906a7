//! Queries: nested tuples on their way down, what was found on its way up.

use penstock_core::queue_id::QueueId;
use penstock_engine::Engine as Inner;
use penstock_engine::spool::{
    Budget, Cursor, DEPTH_MAX, Execution as Found, Kind, LISTED_MAX, NODES_MAX, Operator, Property, Query,
    QueryError, QueryRow, Request, Sort, Standing, Table, Tree, Value, Want,
};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyList, PyString, PyTuple};

use crate::engine::Engine;
use crate::errors::query_refused;
use crate::records::hop_of;

/// A query with what it has found so far. Held by whoever asked; when it is dropped the query is over.
#[pyclass(module = "penstock._core")]
pub(crate) struct Execution {
    found: Option<Box<Found>>,
    is_busy: bool,
}

impl Execution {
    pub(crate) fn new(found: Box<Found>, is_busy: bool) -> Self {
        Self { found: Some(found), is_busy }
    }

    fn found(&self) -> PyResult<&Found> {
        self.found.as_deref().ok_or_else(|| PyValueError::new_err("the query has been handed on"))
    }
}

#[pymethods]
impl Execution {
    #[getter]
    fn is_complete(&self) -> PyResult<bool> {
        Ok(self.found()?.is_complete())
    }

    #[getter]
    fn is_busy(&self) -> bool {
        self.is_busy
    }

    #[getter]
    fn examined(&self) -> PyResult<u64> {
        Ok(self.found()?.examined())
    }

    #[getter]
    fn watermarks(&self) -> PyResult<Option<(u64, u64)>> {
        Ok(self.found()?.watermarks())
    }

    fn result<'py>(&self, py: Python<'py>, core: &Engine) -> PyResult<Bound<'py, PyAny>> {
        let (found, engine) = (self.found()?, core.inner()?);
        match found.query().want() {
            Want::Rows { .. } => {
                let rows = found.rows().iter().map(|QueryRow { values, .. }| {
                    let values = values.iter().map(|one| told(py, engine, one));
                    PyTuple::new(py, values.collect::<PyResult<Vec<_>>>()?)
                });
                let rows = PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)?;
                let next = found.next().map(|cursor| PyBytes::new(py, &cursor.encode()));
                (rows, next).into_bound_py_any(py)
            }
            Want::Count => found.total().into_bound_py_any(py),
            Want::Groups { .. } => {
                let Some(top) = found.groups() else { return Ok(py.None().into_bound(py)) };
                let groups = top.groups.iter().map(|group| {
                    (told(py, engine, &group.value)?, group.sum.count, group.sum.bytes).into_bound_py_any(py)
                });
                let groups = PyList::new(py, groups.collect::<PyResult<Vec<_>>>()?)?;
                (groups, (top.others.count, top.others.bytes), top.is_exact, found.total())
                    .into_bound_py_any(py)
            }
        }
    }
}

fn told<'py>(py: Python<'py>, engine: &Inner, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Flag(flag) => flag.into_bound_py_any(py),
        Value::Number(number) => number.into_bound_py_any(py),
        Value::Hop(hop) => engine.known_hop(*hop).into_bound_py_any(py),
        Value::Text(text) => text.into_bound_py_any(py),
        Value::Many(values) => {
            let values = values.iter().map(|one| told(py, engine, one));
            Ok(PyTuple::new(py, values.collect::<PyResult<Vec<_>>>()?)?.into_any())
        }
    }
}

/// Read a question about messages or queues; `None` if it is of another kind.
pub(crate) fn request(
    engine: &Inner,
    kind: &str,
    arguments: &Bound<'_, PyTuple>,
) -> PyResult<Option<Request>> {
    let begin =
        |table: Table, tree: &Bound<'_, PyAny>, standing: StandingTuple, want: Want, budget: (u64, u64)| {
            let tree = Trees { engine, table, nodes: 0, at: String::new() }.tree(tree, DEPTH_MAX);
            let tree = tree.map_err(|error| error.raise(arguments.py()))?;
            let query = Query::new(table, &tree, self::standing(engine, standing)?, want);
            let query = query.map_err(|error| query_refused(arguments.py(), &error))?;
            let (rows, time_ms) = budget;
            let budget = Budget { rows, time_ms };
            Ok(Some(Request::Query { execution: Box::new(Found::new(query)), budget }))
        };
    match kind {
        "query_messages" | "query_queues" => {
            let table = if kind == "query_messages" { Table::Messages } else { Table::Queues };
            let (tree, standing, select, sort, cursor, limit, rows, time_ms) =
                arguments.extract::<PageTuple<'_>>()?;
            let named = |at: &str, name: &str| named(arguments.py(), table, at, name);
            let select = select.iter().map(|name| named("select", name)).collect::<PyResult<_>>()?;
            let sort = sort
                .into_iter()
                .map(|(name, is_descending)| Ok(Sort { property: named("sort", &name)?, is_descending }));
            let sort = sort.collect::<PyResult<_>>()?;
            let after = cursor.map(|octets| Cursor::decode(&octets)).transpose();
            let after = after.map_err(|error| query_refused(arguments.py(), &error))?;
            // What is no number of rows is refused like 0.
            let limit = u32::try_from(limit).unwrap_or(0);
            begin(table, &tree, standing, Want::Rows { select, sort, after, limit }, (rows, time_ms))
        }
        "count" => {
            let (table, tree, standing, rows, time_ms) =
                arguments.extract::<(String, Bound<'_, PyAny>, StandingTuple, u64, u64)>()?;
            begin(self::table(&table)?, &tree, standing, Want::Count, (rows, time_ms))
        }
        "group" => {
            let (table, tree, standing, by, top, rows, time_ms) =
                arguments.extract::<(String, Bound<'_, PyAny>, StandingTuple, String, i64, u64, u64)>()?;
            let table = self::table(&table)?;
            let by = named(arguments.py(), table, "by", &by)?;
            let top = u32::try_from(top).unwrap_or(0);
            begin(table, &tree, standing, Want::Groups { by, top }, (rows, time_ms))
        }
        "go_on" => {
            let (execution, rows, time_ms) = arguments.extract::<(Bound<'_, Execution>, u64, u64)>()?;
            let found = execution.borrow_mut().found.take();
            let execution = found.ok_or_else(|| PyValueError::new_err("the query has been handed on"))?;
            Ok(Some(Request::Query { execution, budget: Budget { rows, time_ms } }))
        }
        _ => Ok(None),
    }
}

type StandingTuple = (u64, Vec<(u64, u32)>, Vec<u32>);
type PageTuple<'py> =
    (Bound<'py, PyAny>, StandingTuple, Vec<String>, Vec<(String, bool)>, Option<Vec<u8>>, i64, u64, u64);

fn standing(engine: &Inner, (now_ms, active, connecting): StandingTuple) -> PyResult<Standing> {
    let active = active.into_iter().map(|(id, hop)| Ok((QueueId(id), hop_of(engine, hop)?)));
    let active = active.collect::<PyResult<Vec<_>>>()?;
    let connecting = connecting.into_iter().map(|hop| hop_of(engine, hop)).collect::<PyResult<Vec<_>>>()?;
    Ok(Standing::new(now_ms, active, connecting))
}

fn table(text: &str) -> PyResult<Table> {
    match text {
        "messages" => Ok(Table::Messages),
        "queues" => Ok(Table::Queues),
        other => Err(PyValueError::new_err(format!("no table is called {other:?}"))),
    }
}

fn named(py: Python<'_>, table: Table, at: &str, name: &str) -> PyResult<Property> {
    Property::named(table, name).ok_or_else(|| query_refused(py, &unknown(at, name)))
}

fn unknown(at: &str, name: &str) -> QueryError {
    QueryError::new(at, format!("no property is called {name:?}"))
}

/// What ended the reading of a tree.
enum Wrong {
    Query(QueryError),
    Python(PyErr),
}

impl Wrong {
    fn raise(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Query(error) => query_refused(py, &error),
            Self::Python(error) => error,
        }
    }
}

impl From<PyErr> for Wrong {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

/// Reads a tree, and bounds it on the way; its types are checked by the spool.
struct Trees<'a> {
    engine: &'a Inner,
    table: Table,
    nodes: usize,
    at: String,
}

impl Trees<'_> {
    fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong::Query(QueryError::new(&self.at, what))
    }

    fn tree(&mut self, node: &Bound<'_, PyAny>, depth: usize) -> Result<Tree, Wrong> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(self.wrong(format!("a filter has at most {NODES_MAX} nodes")));
        }
        let Some(below) = depth.checked_sub(1) else {
            return Err(self.wrong(format!("a filter is at most {DEPTH_MAX} deep")));
        };
        let shape = |wanted: &str| format!("it is no {wanted}");
        let node = node.cast::<PyTuple>().map_err(|_| self.wrong(shape("tuple")))?;
        let (first, rest) = match node.len() {
            0 => return Err(self.wrong(shape("operator with its operands"))),
            length => (node.get_item(0)?, node.get_slice(1, length)),
        };
        let first = first.cast::<PyString>().map_err(|_| self.wrong(shape("operator")))?.to_string();
        match (first.as_str(), rest.len()) {
            ("and", _) => Ok(Tree::And(self.trees(&rest, "and", below)?)),
            ("or", _) => Ok(Tree::Or(self.trees(&rest, "or", below)?)),
            ("not", 1) => Ok(Tree::Not(Box::new(self.within(&rest.get_item(0)?, "not", below)?))),
            ("null", 1) => Ok(Tree::IsNull(self.property(&rest.get_item(0)?)?)),
            ("in", 2) => {
                let property = self.property(&rest.get_item(0)?)?;
                let listed = rest.get_item(1)?;
                let listed = listed.cast::<PyTuple>().map_err(|_| self.wrong(shape("tuple of values")))?;
                if listed.len() > LISTED_MAX {
                    return Err(self.wrong(format!("the lists of a filter have at most {LISTED_MAX} values")));
                }
                let values = listed.iter().map(|one| self.value(property, &one));
                Ok(Tree::Among(property, values.collect::<Result<_, _>>()?))
            }
            (name, 2) => {
                let Some(operator) = operator(name) else {
                    return Err(self.wrong(format!("no operator is called {name:?}")));
                };
                let property = self.property(&rest.get_item(0)?)?;
                Ok(Tree::Compare(property, operator, self.value(property, &rest.get_item(1)?)?))
            }
            (name, count) => Err(self.wrong(format!("{name:?} does not have {count} operands"))),
        }
    }

    fn trees(&mut self, nodes: &Bound<'_, PyTuple>, step: &str, depth: usize) -> Result<Vec<Tree>, Wrong> {
        let mut trees = Vec::new();
        for (nth, node) in nodes.iter().enumerate() {
            trees.push(self.within(&node, &format!("{step}[{nth}]"), depth)?);
        }
        Ok(trees)
    }

    fn within(&mut self, node: &Bound<'_, PyAny>, step: &str, depth: usize) -> Result<Tree, Wrong> {
        let length = self.at.len();
        if length > 0 {
            self.at.push('.');
        }
        self.at.push_str(step);
        let tree = self.tree(node, depth)?;
        self.at.truncate(length);
        Ok(tree)
    }

    fn property(&self, name: &Bound<'_, PyAny>) -> Result<Property, Wrong> {
        let name = name.cast::<PyString>().map_err(|_| self.wrong("it is no property"))?.to_string();
        Property::named(self.table, &name).ok_or_else(|| Wrong::Query(unknown(&self.at, &name)))
    }

    fn value(&self, property: Property, value: &Bound<'_, PyAny>) -> Result<Value, Wrong> {
        if let Ok(flag) = value.cast::<PyBool>() {
            return Ok(Value::Flag(flag.is_true()));
        }
        if let Ok(text) = value.cast::<PyString>() {
            let text = text.to_str().map_err(|_| self.wrong("a text is not Unicode"))?;
            return Ok(Value::Text(text.into()));
        }
        if !value.is_instance_of::<PyInt>() {
            return Err(self.wrong("a value is a text, a number, True or False"));
        }
        let number: u64 = value.extract().map_err(|_| self.wrong("a number is between 0 and 2^64"))?;
        if property.kind(self.table) != Some(Kind::Hop) {
            return Ok(Value::Number(number));
        }
        let hop = u32::try_from(number).ok().and_then(|number| self.engine.hop_id(number));
        hop.map(Value::Hop).ok_or_else(|| self.wrong(format!("no hop has number {number}")))
    }
}

fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        "eq" => Operator::Eq,
        "ne" => Operator::Ne,
        "lt" => Operator::Lt,
        "le" => Operator::Le,
        "gt" => Operator::Gt,
        "ge" => Operator::Ge,
        "like" => Operator::Like,
        _ => return None,
    })
}
