"""How a result shows itself: one line where Python prints it, tables in a notebook."""

from __future__ import annotations

from html import escape

from nnslim.report.table import Table

__all__ = ["Shown"]


class Shown:
    """Base of results; dataclasses of it say ``repr=False``.

    Example:
        >>> class Size(Shown):
        ...     def summary(self): return "12 parameters"
        >>> Size()
        Size(12 parameters)
    """

    def summary(self) -> str:
        """Return what a line has room for."""
        raise NotImplementedError

    def tables(self) -> tuple[Table, ...]:
        """Return what a notebook shows."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary()})"

    def _repr_html_(self) -> str:
        return "".join(map(_html, self.tables())) or f"<code>{escape(repr(self))}</code>"


def _html(table: Table) -> str:
    head = "".join(f"<th>{escape(column.name)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    title = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    return f"<table>{title}<tr>{head}</tr>{rows}</table>"
