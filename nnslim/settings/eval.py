"""How a file is measured, and what it must keep to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnslim.errors import ConfigError
from nnslim.settings.option import AUTO, flag, option, section
from nnslim.settings.parse import parse_count
from nnslim.settings.session import SessionSettings
from nnslim.settings.tree import Checked

__all__ = ["QUICK", "EvalSettings", "Gates", "LatencySettings", "PairedSettings", "ReportSettings"]


@dataclass(frozen=True)
class LatencySettings(Checked, section="latency."):
    """How long to measure; times are per candidate."""

    warmup_runs: int = option(10, "Untimed calls at least.", low=0)
    warmup_s: float = option(0.5, "Untimed seconds at least; with no calls no warm-up.", low=0)
    warmup_cap_s: float = option(5.0, "Untimed seconds at most, but never under one call.", low=0)
    settled: float = option(
        0.02, "Warm-up goes on until the medians of three blocks agree within this share.", low=0
    )
    block_s: float = option(
        0.01, "Seconds that a turn of the fastest candidate lasts at least.", low=0
    )
    rounds: int = option(20, "Rounds of turns at least.", low=1)
    calls_per_round: int = option(5, "Calls of one candidate in its turn at least.", low=1)
    min_s: float = option(1.0, "Timed seconds at least.", low=0)
    max_s: float = option(10.0, "Timed seconds at most, but never under one round.", low=0)


@dataclass(frozen=True)
class PairedSettings(Checked, section="paired."):
    """How long to measure a ratio of latencies.

    Measuring never stops on significance, which would bias the result.

    Raises:
        ConfigError: A count below 1, a time below 0, or fewer pairs at most than at least.
    """

    pairs: int = option(
        5, "Fresh pairs of sessions at least, unless the budget is spent after three.", low=1
    )
    max_pairs: int = option(30, "Fresh pairs of sessions at most.", low=1)
    half_width: float = option(
        0.01, "Stop once the interval's half-width is at most this share of the ratio.", low=0
    )
    rounds: int = option(8, "Rounds per pair at least, unless they take longer than max_s.", low=1)
    least_rounds: int = option(20, "Rounds in all at least.", low=0)
    min_s: float = option(3.0, "Timed seconds in all at least.", low=0)
    max_s: float = option(
        4.0, "Timed seconds per pair and file at most, but never under one round.", low=0
    )
    budget_s: float = option(
        60.0,
        "Seconds for one file's latency against the baseline at one batch size.",
        metavar="SECONDS",
        low=0,
    )
    block_s: float = option(0.01, "Seconds that a turn of the faster file lasts at least.", low=0)
    warmup_s: float = option(0.5, "Untimed seconds of each session at least.", low=0)
    warmup_runs: int = option(10, "Untimed calls of each session at least.", low=0)
    draws: int = option(10_000, "Bootstrap draws of the interval.", low=1)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_pairs < self.pairs:
            raise ConfigError(
                f"[[paired.max_pairs={self.max_pairs}]] is below [[paired.pairs={self.pairs}]]"
            )


# For a search that measures many networks, and checks the one that it takes in the end.
QUICK = PairedSettings(
    pairs=3,
    max_pairs=5,
    rounds=6,
    least_rounds=1,
    min_s=0.0,
    max_s=2.0,
    block_s=0.02,
    warmup_s=0.3,
    warmup_runs=3,
)


@dataclass(frozen=True)
class EvalSettings(Checked):
    """How to measure.

    Example:
        >>> EvalSettings(SessionSettings("cpu"), batch_sizes=(1, 8)).session.device
        'cpu'
    """

    session: SessionSettings = section(SessionSettings)
    batch_sizes: tuple[int, ...] = flag(
        (1,),
        "Images per run that latency is measured with, such as 1,32.",
        "batch-size",
        low=1,
        panel="Output",
    )
    accuracy_batch: int | None = option(
        None,
        "Images per run while accuracy is measured; auto is 100, or fewer of large images.",
        none="auto",
        low=1,
    )
    workers: int = flag(AUTO, "Processes that decode image files.", low=0, auto="by cores")
    latency: LatencySettings = section(LatencySettings)
    paired: PairedSettings = section(PairedSettings)
    seed: int = flag(0, "Seed of everything random.", low=0)


@dataclass(frozen=True)
class Gates(Checked, panel="Budget", section="gates."):
    """What the user demands of a file; None demands nothing."""

    min_top1: float | None = flag(
        None, "Fail below this top-1 accuracy, in percent.", metavar="PCT", low=0, high=100
    )
    max_drop: float | None = flag(
        None,
        "Fail where the file may lose more points of top-1 accuracy than this against the "
        "baseline: the upper end of the 95 % interval counts.",
        metavar="POINTS",
    )
    max_latency_ratio: float | None = flag(
        None, "Fail where latency is surely above this share of the baseline's.", low=0
    )
    max_latency_ms: float | None = flag(
        None, "Fail above this median latency.", metavar="MS", low=0
    )
    max_params: int | None = flag(
        None, "Fail above this number of parameters, such as 140k.", read=parse_count
    )
    max_macs: int | None = flag(
        None, "Fail above this number of multiply-adds, such as 20M.", read=parse_count
    )
    max_bytes: int | None = flag(
        None, "Fail above this size of the ONNX file, such as 2M.", read=parse_count
    )
    max_params_ratio: float | None = option(
        None, "Fail above this share of the baseline's parameters.", low=0
    )
    max_macs_ratio: float | None = option(
        None, "Fail above this share of the baseline's multiply-adds.", low=0
    )
    max_bytes_ratio: float | None = option(
        None, "Fail above this share of the baseline's size.", low=0
    )
    latency_device: Literal["cpu", "cuda"] | None = option(
        None, "Where limits on latency are meant; elsewhere they are skipped.", none="any"
    )

    @property
    def needs_baseline(self) -> str | None:
        """Path of a limit that only makes sense with a baseline, if one is set."""
        ratios = (f"max_{own}_ratio" for own in ("latency", "params", "macs", "bytes"))
        said = (name for name in ("max_drop", *ratios) if getattr(self, name) is not None)
        return next((f"gates.{name}" for name in said), None)


@dataclass(frozen=True)
class ReportSettings(Checked, panel="Output"):
    """What else is compared, what fails the command, and where the result is written too."""

    baseline: Path | None = flag(
        None,
        "One more file to compare with; no gate applies to it.",
        metavar="FILE",
        panel="Model and data",
    )
    strict: bool = flag(False, "Fail where a gate is inconclusive or skipped, too.", panel="Budget")
    report: tuple[str, ...] = flag(
        (),
        "Write the result here too: .json, .md, .xml (JUnit) or .html; repeatable.",
        metavar="PATH",
    )
    samples: Path | None = option(None, "Write every timed call to this .npz file.", metavar="FILE")
