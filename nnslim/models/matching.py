"""Compares the tensors of a file with those that an architecture has, by name and shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnslim.models.skeleton import Signature

__all__ = ["Match", "match_signatures"]

_SHOWN = 3


@dataclass(frozen=True)
class Match:
    """How a file's tensors and an architecture's differ.

    Attributes:
        missing: Names that the architecture has and the file has not.
        unexpected: Names that only the file has.
        reshaped: Names in both, with the file's shape and the architecture's.
        n_common: Number of names that agree in shape too.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    n_common: int

    @property
    def exact(self) -> bool:
        """Every tensor has its place and its shape."""
        return not (self.missing or self.unexpected or self.reshaped)

    @property
    def same_names(self) -> bool:
        """Only shapes differ, if anything does."""
        return not (self.missing or self.unexpected)

    @property
    def overlap(self) -> float:
        """Share of all names that both have, 0 to 1; equal names with other shapes count half."""
        n_all = len(self.missing) + len(self.unexpected) + len(self.reshaped) + self.n_common
        return (self.n_common + len(self.reshaped) / 2) / max(n_all, 1)

    def describe(self) -> str:
        """Say what differs: counts, and the first few names of each kind.

        Example:
            >>> match_signatures({"a": (2,), "c": (1,)}, {"a": (3,), "b": (1,)}).describe()
            '1 missing (b), 1 unexpected (c), 1 of another shape (a: (2,) in the file, (3,) needed)'
        """
        shapes = [
            f"{name}: {shape} in the file, {wanted} needed" for name, shape, wanted in self.reshaped
        ]
        parts = (
            (self.missing, "missing"),
            (self.unexpected, "unexpected"),
            (shapes, "of another shape"),
        )
        return ", ".join(f"{len(names)} {kind} ({_few(names)})" for names, kind in parts if names)


def match_signatures(shapes: Signature, wanted: Signature) -> Match:
    """Compare what a file holds with what an architecture needs.

    ``num_batches_tracked`` may be missing: checkpoints from before torch 0.4.1 lack it, and it
    counts training steps only.

    Args:
        shapes: The file's shapes by name.
        wanted: The architecture's shapes by name.
    """
    reshaped = tuple(
        (name, shape, wanted[name])
        for name, shape in shapes.items()
        if name in wanted and shape != wanted[name]
    )
    return Match(
        missing=tuple(n for n in wanted if n not in shapes and not _is_counter(n)),
        unexpected=tuple(name for name in shapes if name not in wanted),
        reshaped=reshaped,
        n_common=sum(name in wanted for name in shapes) - len(reshaped),
    )


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == "num_batches_tracked"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
