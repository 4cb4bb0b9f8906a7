"""Tables: aligned, cut to the terminal, never cut when they go elsewhere.

Widths are those of the first rows, so a list of any length is printed as it comes; what is wider later is cut
on a terminal and pushes its line elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from penstock.cli.text import cut, printable, width

__all__ = ["Column", "Table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        title: In capitals.
        is_number: Aligned to the right.
        narrowest: Columns below which it is not made narrower for the terminal; None: never made narrower.
    """

    title: str
    is_number: bool = False
    narrowest: int | None = None


class Table:
    """Turns rows of texts into lines."""

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        columns_max: int | None,
        style: Callable[[str], str] = lambda cell: cell,
    ) -> None:
        """Take the columns.

        Args:
            columns: From left to right.
            columns_max: The terminal's width, or None to cut nothing.
            style: Adds colour to a cell that it knows.
        """
        self._columns = columns
        self._columns_max = columns_max
        self._style = style
        self._widths: list[int] = []

    def lines(self, rows: Iterable[Sequence[str]]) -> Iterator[str]:
        """Yield a line per row; before the first rows of all, the titles."""
        cells = [[printable(cell) for cell in row] for row in rows]
        if not self._widths:
            titles = [column.title for column in self._columns]
            self._widths = self._fit([max(map(width, cells)) for cells in zip(titles, *cells, strict=True)])
            yield self._line(titles)
        for row in cells:
            yield self._line(row)

    def _fit(self, widths: list[int]) -> list[int]:
        """Make the widest of the columns that allow it narrower until the line fits, or none is left."""
        if self._columns_max is None:
            return widths
        # Each column has a space before it, and one more between two.
        over = sum(widths) + 2 * len(widths) - 1 - self._columns_max
        while over > 0:
            room, index = max(
                (
                    (widths[index] - column.narrowest, index)
                    for index, column in enumerate(self._columns)
                    if column.narrowest is not None
                ),
                default=(0, 0),
            )
            if room <= 0:
                break
            widths[index] -= 1
            over -= 1
        return widths

    def _line(self, cells: Sequence[str]) -> str:
        if self._columns_max is not None:
            cells = [cut(cell, wanted) for cell, wanted in zip(cells, self._widths, strict=True)]
            plain = self._joined(cells, lambda cell: cell)
            if width(plain) > self._columns_max:
                # Too narrow for all columns; a colour could be cut in two.
                return cut(plain, self._columns_max).rstrip()
        return self._joined(cells, self._style)

    def _joined(self, cells: Sequence[str], style: Callable[[str], str]) -> str:
        padded = []
        for cell, wanted, column in zip(cells, self._widths, self._columns, strict=True):
            padding = " " * (wanted - width(cell))
            padded.append(padding + cell if column.is_number else style(cell) + padding)
        return f" {'  '.join(padded)}".rstrip()
