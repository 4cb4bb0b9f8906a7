"""Tables: aligned anywhere, cut on a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.table import Column, Table
from penstock.cli.text import width

COLUMNS = (
    Column(title="ID", is_number=True),
    Column(title="NAME", narrowest=6),
    Column(title="STATUS"),
    Column(title="ERROR", narrowest=8),
)
ROWS = [
    ("1", "m365", "Retry", "connect: timed out"),
    ("217", "fabrikam.example", "Ready", ""),
]


def test_columns_are_aligned_and_nothing_is_cut_without_a_terminal() -> None:
    assert list(Table(COLUMNS, columns_max=None).lines(ROWS)) == [
        "  ID  NAME              STATUS  ERROR",
        "   1  m365              Retry   connect: timed out",
        " 217  fabrikam.example  Ready",
    ]


def test_the_widest_column_that_may_is_made_narrower_for_a_terminal() -> None:
    assert list(Table(COLUMNS, columns_max=42).lines(ROWS)) == [
        "  ID  NAME          STATUS  ERROR",
        "   1  m365          Retry   connect: time…",
        " 217  fabrikam.ex…  Ready",
    ]


def test_below_all_that_can_be_cut_lines_are() -> None:
    assert list(Table(COLUMNS, columns_max=14).lines(ROWS)) == [
        "  ID  NAME   …",
        "   1  m365   …",
        " 217  fabri… …",
    ]


def test_titles_come_once_and_widths_stay() -> None:
    table = Table(COLUMNS, columns_max=None)
    first = list(table.lines(ROWS[:1]))
    more = list(table.lines(ROWS[1:]))
    assert len(first) == 2
    assert more == [" 217  fabrikam.example  Ready"]


def test_wide_letters_keep_the_columns_aligned() -> None:
    lines = list(Table(COLUMNS, columns_max=None).lines([("1", "日本", "a", "x"), ("2", "abcd", "b", "y")]))
    assert width(lines[1]) == width(lines[2])


def test_style_changes_no_width() -> None:
    styled = Table(COLUMNS, columns_max=None, style=lambda cell: f"<{cell}>" if cell == "Retry" else cell)
    plain = Table(COLUMNS, columns_max=None)
    lines = [line.replace("<", "").replace(">", "") for line in styled.lines(ROWS)]
    assert lines == list(plain.lines(ROWS))


CELLS = st.text(max_size=30)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=5), st.integers(1, 120))
def test_no_line_is_wider_than_the_terminal_or_more_than_a_line(
    rows: list[tuple[str, ...]], columns_max: int
) -> None:
    lines = list(Table(COLUMNS, columns_max=columns_max).lines(rows))
    assert len(lines) == len(rows) + 1
    for line in lines:
        assert width(line) <= columns_max
        assert line.isprintable()
