//! TOML with the place of every key and value, so that whoever reads a configuration can point at it.

use std::ops::Range;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};
use toml_parser::lexer::TokenKind;

/// Dots in one key. The parser bounds how deep brackets and braces go, but not this, and tables are read and
/// dropped recursively.
const KEY_DOTS_MAX: usize = 32;

/// What is wrong with a file that is no TOML at all can be as long as the file.
const ERRORS_MAX: usize = 100;

type SyntaxError = (String, usize, usize, usize);

/// Parses a TOML document; returns its top table, and what is wrong with its syntax as (what, line, column,
/// width).
///
/// What is wrong is found in one go, as far as the parser can recover, first causes first; of the table
/// nothing is to be believed then.
#[pyfunction]
pub(crate) fn parse_toml<'py>(
    py: Python<'py>,
    text: &str,
) -> PyResult<(Bound<'py, PyTuple>, Vec<SyntaxError>)> {
    let mut reader = Reader { py, lines: Lines::new(text), errors: Vec::new() };
    if let Some(span) = long_key(text) {
        reader.error("too many dots in one key", &span);
        return Ok((reader.node("table", PyList::empty(py).into_any(), &(0..0))?, reader.errors));
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(ERRORS_MAX) {
        let end = text.len();
        reader.error(error.message(), &error.span().unwrap_or(end..end));
    }
    let top = reader.table(document.get_ref(), &document.span())?;
    Ok((top, reader.errors))
}

/// The place of the first dot too many, if a key has one.
fn long_key(text: &str) -> Option<Range<usize>> {
    let mut dots = 0;
    for token in toml_parser::Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Whitespace | TokenKind::Atom | TokenKind::LiteralString | TokenKind::BasicString => {}
            _ => dots = 0,
        }
        if dots > KEY_DOTS_MAX {
            return Some(token.span().start()..token.span().end());
        }
    }
    None
}

/// Octets of a text as lines and columns; each look-up takes the same time, however long a line is.
struct Lines {
    /// Where lines begin.
    starts: Vec<usize>,
    /// For each octet and the end, how many characters have begun before it.
    characters: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let mut lines = Self { starts: vec![0], characters: Vec::with_capacity(text.len() + 1) };
        let mut characters = 0;
        for (at, octet) in text.bytes().enumerate() {
            lines.characters.push(characters);
            // Every octet of a character but its first is 10xxxxxx.
            characters += usize::from(octet & 0xC0 != 0x80);
            if octet == b'\n' {
                lines.starts.push(at + 1);
            }
        }
        lines.characters.push(characters);
        lines
    }

    /// Line, column, width: from 1, in characters; what spans lines is cut at the end of its first.
    fn place(&self, span: &Range<usize>) -> (usize, usize, usize) {
        let line = self.starts.partition_point(|start| *start <= span.start);
        let start = line.checked_sub(1).and_then(|above| self.starts.get(above)).copied().unwrap_or(0);
        let end = self.starts.get(line).map_or(span.end, |next| span.end.min(next - 1));
        let width = self.before(end).saturating_sub(self.before(span.start));
        (line, self.before(span.start) - self.before(start) + 1, width.max(1))
    }

    fn before(&self, octet: usize) -> usize {
        self.characters.get(octet).or(self.characters.last()).copied().unwrap_or(0)
    }
}

/// Turns what was parsed into tuples.
struct Reader<'py> {
    py: Python<'py>,
    lines: Lines,
    errors: Vec<SyntaxError>,
}

impl<'py> Reader<'py> {
    fn error(&mut self, what: &str, span: &Range<usize>) {
        let (line, column, width) = self.lines.place(span);
        self.errors.push((what.to_owned(), line, column, width));
    }

    fn node(
        &self,
        kind: &str,
        value: Bound<'py, PyAny>,
        span: &Range<usize>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let (line, column, width) = self.lines.place(span);
        (kind, value, line, column, width).into_pyobject(self.py)
    }

    /// A table's entries in the order in which they are written.
    fn table(&mut self, table: &DeTable<'_>, span: &Range<usize>) -> PyResult<Bound<'py, PyTuple>> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let list = PyList::empty(self.py);
        for (key, value) in entries {
            let (line, column, width) = self.lines.place(&key.span());
            list.append((key.get_ref().as_ref(), line, column, width, self.value(value)?))?;
        }
        self.node("table", list.into_any(), span)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) -> PyResult<Bound<'py, PyTuple>> {
        let span = value.span();
        let (kind, object) = match value.get_ref() {
            DeValue::String(text) => ("string", text.as_ref().into_bound_py_any(self.py)?),
            DeValue::Integer(number) => ("integer", self.integer(number, &span)?),
            DeValue::Float(number) => ("float", self.float(number, &span)?),
            DeValue::Boolean(truth) => ("boolean", truth.into_bound_py_any(self.py)?),
            DeValue::Datetime(time) => ("datetime", time.to_string().into_bound_py_any(self.py)?),
            DeValue::Array(items) => {
                let list = PyList::empty(self.py);
                for item in items {
                    list.append(self.value(item)?)?;
                }
                ("array", list.into_any())
            }
            DeValue::Table(table) => return self.table(table, &span),
        };
        self.node(kind, object, &span)
    }

    fn integer(&mut self, number: &DeInteger<'_>, span: &Range<usize>) -> PyResult<Bound<'py, PyAny>> {
        let read = i64::from_str_radix(number.as_str(), number.radix());
        if read.is_err() {
            self.error("integer does not fit into 64 bits", span);
        }
        read.unwrap_or_default().into_bound_py_any(self.py)
    }

    fn float(&mut self, number: &DeFloat<'_>, span: &Range<usize>) -> PyResult<Bound<'py, PyAny>> {
        let read = number.as_str().parse::<f64>();
        if read.is_err() {
            self.error("number cannot be read", span);
        }
        read.unwrap_or_default().into_bound_py_any(self.py)
    }
}
