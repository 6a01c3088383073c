"""A table as a value: made by whoever has the numbers, rendered by whoever shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["Column", "Json", "Table"]

Json: TypeAlias = Mapping[str, Any]  # a report, or a part of one, as its JSON file has it


@dataclass(frozen=True)
class Column:
    """A heading, with its unit when there is one, and how the cells below it are aligned."""

    name: str
    align: Literal["left", "right"] = "left"


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; nothing in it is markup.

    Attributes:
        title: One line above the table; empty for none.
        columns: The headings, from left to right.
        rows: One string per column in each row.

    Raises:
        ValueError: A row is longer or shorter than the headings.

    Example:
        >>> table = Table.of("Sizes", ["file", ">bytes"], [["a.onnx", "12"]])
        >>> table.columns[1]
        Column(name='bytes', align='right')
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: {len(self.columns)} columns, but a row is {row}")

    @classmethod
    def of(cls, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
        """Build a table from plain sequences; a heading that starts with ``>`` aligns right."""
        columns = tuple(
            Column(name[1:], "right") if name.startswith(">") else Column(name) for name in headings
        )
        return cls(title, columns, tuple(tuple(row) for row in rows))
