"""Where plans are measured: a device that runs networks, or a model of one in tests."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nnslim.measure.bench import Bench
from nnslim.measure.cost_model import CostModel
from nnslim.surgery import apply_edit

if TYPE_CHECKING:
    from collections.abc import Generator

    from nnslim.channels import ChannelMap
    from nnslim.measure.layer_times import LayerTimes
    from nnslim.measure.ratio import PairedRatio
    from nnslim.network.network import Network
    from nnslim.pruning.plans.plan import Plan
    from nnslim.settings.eval import PairedSettings
    from nnslim.settings.session import SessionSettings

__all__ = ["Device", "NetworkDevice", "Ratios", "open_device", "worst"]

Ratios = Mapping[int, "PairedRatio"]


def worst(ratios: Ratios) -> PairedRatio:
    """Return the ratio at the batch size that gains least."""
    return max(ratios.values(), key=lambda ratio: ratio.ratio)


class Device(Protocol):
    """What the search for a latency needs to know, and what it asks.

    Attributes:
        channels: The groups of the network that is cut.
        costs: Its cost model.
    """

    channels: ChannelMap
    costs: CostModel

    def control(self) -> Ratios:
        """Measure the network against itself, by batch size; once."""
        ...

    def layer_times(self) -> Mapping[int, LayerTimes]:
        """Estimate what the entries of each weight cost, by batch size; once."""
        ...

    def measure(self, plan: Plan, settings: PairedSettings) -> Ratios:
        """Measure a plan's network against the network as it is, in fresh sessions."""
        ...

    def facts(self) -> dict[str, object]:
        """Say where and how it measures, in plain JSON values."""
        ...


class NetworkDevice:
    """Cuts, exports and measures; see ``open_device``."""

    def __init__(self, network: Network, channels: ChannelMap, bench: Bench) -> None:
        self.channels = channels
        self.costs = CostModel(network, channels)
        self._network, self._bench = network, bench
        self.control = cache(lambda: bench.ratios(bench.parent))
        self.layer_times = cache(bench.layer_times)
        self.facts = bench.facts
        self._last: tuple[Plan, Path] | None = None

    def measure(self, plan: Plan, settings: PairedSettings) -> Ratios:
        """Measure a plan's network; the file of the last plan is kept for its check.

        Raises:
            ExportMismatchError: The export computes something else than the network.
            DeviceError: The device failed.
        """
        if self._last is None or self._last[0] is not plan:
            if self._last is not None:
                self._last[1].unlink()
            cut = apply_edit(self._network, plan.edit, self.channels)
            self._last = plan, self._bench.export(cut)
        return self._bench.ratios(self._last[1], settings)


@contextlib.contextmanager
def open_device(
    network: Network,
    channels: ChannelMap,
    settings: SessionSettings,
    batch_sizes: tuple[int, ...] = (1,),
) -> Generator[NetworkDevice]:
    """Export a network into a temporary folder, to measure its plans at each batch size.

    Raises:
        DeviceError: The device that was asked for is not there.
        ExportMismatchError: The network's export computes something else.
    """
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        bench = Bench(network, Path(folder), settings, batch_sizes)
        yield NetworkDevice(network, channels, bench)
