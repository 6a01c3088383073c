"""Limits that a measured file must keep, for CI jobs. Pure: a report in, verdicts out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nnslim.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.measure.results import EvalReport, FileResult

__all__ = ["Limits", "Verdict", "check_gates"]


@dataclass(frozen=True)
class Limits:
    """What the user demands; None demands nothing.

    Attributes:
        min_top1_pct: Top-1 accuracy at least, in percent.
        max_parameters: Parameters at most.

    Raises:
        ConfigError: A limit that is not a finite number.
    """

    min_top1_pct: float | None = None
    max_parameters: int | None = None

    def __post_init__(self) -> None:
        for limit in (self.min_top1_pct, self.max_parameters):
            if limit is not None and not math.isfinite(limit):
                raise ConfigError(f"a limit of {limit} can be neither kept nor broken")


@dataclass(frozen=True)
class Verdict:
    """One limit on one file.

    Attributes:
        gate: The limit's flag, without dashes.
        path: The file.
        limit: What was demanded.
        measured: What was found; None where it was not measured or is not a number.
        status: A missing measurement fails.
    """

    gate: Literal["min-top1", "max-params"]
    path: Path
    limit: float
    measured: float | None
    status: Literal["pass", "fail"]

    @property
    def message(self) -> str:
        """One sentence for the user.

        Example:
            >>> from pathlib import Path
            >>> Verdict("max-params", Path("a.onnx"), 100, 120, "fail").message
            'a.onnx: max-params 100 failed: measured 120'
        """
        word = "passed" if self.status == "pass" else "failed"
        found = "not measured" if self.measured is None else f"measured {_number(self.measured)}"
        return f"{self.path}: {self.gate} {_number(self.limit)} {word}: {found}"

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "gate": self.gate,
            "path": str(self.path),
            "limit": self.limit,
            "measured": self.measured,
            "status": self.status,
        }


def check_gates(report: EvalReport, limits: Limits) -> tuple[Verdict, ...]:
    """Apply every limit to every file but baselines; exactly at the limit passes."""
    return tuple(
        verdict
        for result in report.files
        if not result.baseline
        for verdict in _verdicts(result, limits)
    )


def _verdicts(result: FileResult, limits: Limits) -> list[Verdict]:
    path, verdicts = result.path, list[Verdict]()
    if (limit := limits.min_top1_pct) is not None:
        top1 = _finite(result.accuracy.top1_pct if result.accuracy else None)
        status = "pass" if top1 is not None and top1 >= limit else "fail"
        verdicts.append(Verdict("min-top1", path, limit, top1, status))
    if (limit := limits.max_parameters) is not None:
        count = _finite(result.n_parameters)
        status = "pass" if count is not None and count <= limit else "fail"
        verdicts.append(Verdict("max-params", path, limit, count, status))
    return verdicts


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
