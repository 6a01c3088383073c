"""Limits that a measured file must keep, for CI jobs. Pure: a report in, verdicts out.

Counts and sizes are exact, and so are their limits. Accuracy and latency against a baseline are
intervals. A drop in accuracy must surely stay within its limit; a ratio of latencies, which a busy
machine widens through no fault of the file, is ``inconclusive`` where the interval holds the limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.measure.results import EvalReport, FileResult
    from nnslim.settings.eval import Gates

__all__ = ["Status", "Verdict", "check_gates"]

Status = Literal["pass", "fail", "inconclusive", "skipped"]


@dataclass(frozen=True)
class Verdict:
    """One limit on one file.

    Attributes:
        gate: The limit's flag, without dashes.
        path: The file.
        limit: What was demanded.
        measured: The value; None where it was not measured or is not a number.
        status: A missing measurement fails, unless its limit is for another device.
        interval: Where the true value is, 19 times out of 20; None for what is exact.
        reason: Why it is inconclusive or skipped.
    """

    gate: str
    path: Path
    limit: float
    measured: float | None
    status: Status
    interval: tuple[float, float] | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "gate": self.gate,
            "path": str(self.path),
            "limit": self.limit,
            "measured": self.measured,
            "low": None if self.interval is None else self.interval[0],
            "high": None if self.interval is None else self.interval[1],
            "status": self.status,
            "reason": self.reason,
        }


def check_gates(report: EvalReport, limits: Gates) -> tuple[Verdict, ...]:
    """Apply every limit to every file but baselines; exactly at the limit passes."""
    return tuple(
        verdict
        for result in report.files
        if not result.baseline
        for verdict in _verdicts(result, limits)
    )


def _verdicts(result: FileResult, limits: Gates) -> Iterator[Verdict]:
    against = result.against
    exact: dict[str, float | None] = {
        "min_top1": result.accuracy.top1_pct if result.accuracy else None,
        "max_params": result.n_parameters,
        "max_macs": result.macs,
        "max_bytes": result.onnx_bytes,
        "max_params_ratio": against.params_ratio if against else None,
        "max_macs_ratio": against.macs_ratio if against else None,
        "max_bytes_ratio": against.bytes_ratio if against else None,
    }
    for name, value in exact.items():
        if (limit := getattr(limits, name)) is not None:
            measured = _finite(value)
            least = name == "min_top1"
            kept = measured is not None and (measured >= limit if least else measured <= limit)
            gate = name.replace("_", "-")
            yield Verdict(gate, result.path, limit, measured, "pass" if kept else "fail")
    yield from _drop(result, limits)
    yield from _latency(result, limits)


def _drop(result: FileResult, limits: Gates) -> Iterator[Verdict]:
    """The upper end of the interval counts: the file must surely lose no more."""
    limit = limits.max_drop
    if limit is None:
        return
    drop = result.against.accuracy if result.against else None
    if drop is None:
        yield Verdict("max-drop", result.path, limit, None, "fail")
        return
    interval = (drop.low, drop.high)
    status: Status = "pass" if drop.high <= limit else "fail"
    reason = None
    if status == "fail" and drop.drop_pp <= limit:
        reason = f"too few images to be sure: {drop.n:,}"
    yield Verdict("max-drop", result.path, limit, drop.drop_pp, status, interval, reason)


def _latency(result: FileResult, limits: Gates) -> Iterator[Verdict]:
    elsewhere = _elsewhere(result, limits)
    if (limit := limits.max_latency_ms) is not None:
        first = next(iter(result.latency.values()), None)
        value = _finite(first.median_ms if first else None)
        kept = value is not None and value <= limit
        status: Status = "skipped" if elsewhere else "pass" if kept else "fail"
        yield Verdict("max-latency-ms", result.path, limit, value, status, reason=elsewhere)
    if (limit := limits.max_latency_ratio) is None:
        return
    latency = result.against.latency if result.against else {}
    if not latency:
        status = "skipped" if elsewhere else "fail"
        yield Verdict("max-latency-ratio", result.path, limit, None, status, reason=elsewhere)
    for size, measured in latency.items():
        gate = "max-latency-ratio" if len(latency) == 1 else f"max-latency-ratio at batch {size}"
        ratio = measured.ratio
        status, reason = _ratio_status(ratio.low, ratio.high, limit)
        if (measured.noisy or measured.hides(limit)) and status != "inconclusive":
            status = "inconclusive"
            control = f"{measured.control.low:.3f} to {measured.control.high:.3f}"
            reason = f"the machine is noisy: the baseline against itself gave {control}"
        if elsewhere:
            status, reason = "skipped", elsewhere
        interval = (ratio.low, ratio.high)
        yield Verdict(gate, result.path, limit, ratio.ratio, status, interval, reason)


def _ratio_status(low: float, high: float, limit: float) -> tuple[Status, str | None]:
    if high <= limit:
        return "pass", None
    if low > limit:
        return "fail", None
    return "inconclusive", "the interval holds the limit"


def _elsewhere(result: FileResult, limits: Gates) -> str | None:
    """Why limits on latency do not apply, where they are for another device."""
    wanted = limits.latency_device
    ran = "cuda" if result.provider_used.startswith(("CUDA", "Tensorrt")) else "cpu"
    if wanted is None or ran == wanted:
        return None
    return f"the limit is for {wanted}, this ran on {ran}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
