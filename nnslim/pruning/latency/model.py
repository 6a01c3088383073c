"""Estimated latency of a network as a function of its widths, from the times of its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnslim.measure.cost_model import CostModel
    from nnslim.measure.layer_times import LayerTimes

__all__ = ["LatencyModel"]


class LatencyModel:
    """A layer's time is what no removal wins back, plus a price per entry of its weight.

    It decides in which order channels go and where the search looks first; whether a budget holds
    is measured.
    """

    def __init__(self, costs: CostModel, times: Mapping[int, LayerTimes]) -> None:
        """Weigh the tensors of a cost model with the times measured at each batch size."""
        self._costs = costs
        self._full = costs.entries(costs.widths)
        # (n_batch_sizes, n_tensors), as shares of the whole network's time
        self._shares = np.array(
            [
                [layers.per_entry_ms.get(name, 0.0) / layers.total_ms for name in costs.tensors]
                for layers in times.values()
            ]
        )

    def ratio(self, widths: np.ndarray) -> float:
        """Estimate the latency at these widths as a share of the whole, at the worst batch size."""
        return 1.0 - float((self._shares @ (self._full - self._costs.entries(widths))).min())

    def worth(self) -> np.ndarray:
        """What one channel of each group saves, as a share of the whole latency, (n_groups,).

        The mean over the batch sizes, at the full widths.
        """
        widths = self._costs.widths
        steps = np.eye(len(widths), dtype=np.int64)
        saved = np.stack([self._full - self._costs.entries(widths - step) for step in steps])
        return (saved @ self._shares.T).mean(axis=1)
