"""A latency budget of a growing run: what a network takes, as a share of its teacher's time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nnslim.errors import ConfigError
from nnslim.measure.bench import Bench
from nnslim.processes import from_main
from nnslim.settings.eval import QUICK
from nnslim.settings.session import SessionSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from nnslim.network.network import Network
    from nnslim.run.stages import Record
    from nnslim.settings.budget import LatencyBudget

__all__ = ["added_microseconds", "check_latency", "latency_share", "over_budget"]

_LEAST_SHARE = 0.01  # a difference that cannot be told from noise must not look like a bargain


def check_latency(
    budget: LatencyBudget, small: Network, teacher: Network, device: torch.device
) -> None:
    """Check that there is time to grow: measure the network that everything is planted into.

    Raises:
        ConfigError: It takes as long as the budget allows, or longer.
        DeviceError: The device failed.
    """
    share, teacher_ms = from_main(lambda: latency_share(small, teacher, device))
    most = budget.share_of({1: teacher_ms})
    if share >= most:
        raise ConfigError(
            f"the seed takes {100 * share:.1f}% of the teacher's {teacher_ms:.3g} ms,"
            f" [[latency={budget}]] is {100 * most:.1f}%: nothing can be planted",
            hint="give a larger [[latency]] or a smaller seed",
        )


def over_budget(budget: LatencyBudget | None, record: Record) -> str | None:
    """Say what a round's network takes and what it may take; None where it keeps to the budget."""
    if budget is None:
        return None
    share = cast("float", record["latency_share"])
    most = budget.share_of({1: cast("float", record["teacher_ms"])})
    if share <= most:
        return None
    return f"{100 * share:.1f} % of the teacher's latency, the budget is {100 * most:.1f} %"


def latency_share(network: Network, teacher: Network, device: torch.device) -> tuple[float, float]:
    """Measure both in onnxruntime, one image per run, in turns.

    Returns:
        The network's latency as a share of the teacher's, and the teacher's in milliseconds.

    Raises:
        DeviceError: The device failed.
    """
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        bench = Bench(teacher.cpu(), Path(folder), SessionSettings(device=str(device)))
        ratio = bench.ratios(bench.export(network.cpu()), QUICK)[1]
    return ratio.ratio, ratio.parent_ms


def added_microseconds(
    network: Network, candidates: Sequence[Network], device: torch.device
) -> list[float]:
    """Measure what each candidate takes longer than the network before it, one image per run.

    Returns:
        Microseconds in onnxruntime, each at least 1 % of the network's latency.

    Raises:
        DeviceError: The device failed.
    """
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        bench = Bench(network.cpu(), Path(folder), SessionSettings(device=str(device)))
        ratios = [bench.ratios(bench.export(c.cpu()), QUICK)[1] for c in candidates]
    return [1e3 * ratio.parent_ms * max(ratio.ratio - 1, _LEAST_SHARE) for ratio in ratios]
