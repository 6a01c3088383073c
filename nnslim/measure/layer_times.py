"""What a multiply-add costs in each layer, in time: it differs by an order between layers.

Each distinct convolution and linear layer is timed alone, as it is and at about half its channels.
The line through both says what its channels are worth (the slope) and what no removal wins back
(the rest: a launch on a GPU, an image's pixels). Timing layers alone rather than reading a
profile works alike on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from nnslim.measure.macs import weighted_positions
from nnslim.network.graph import BATCH, Node, Ref, TensorInfo
from nnslim.network.network import Network

__all__ = ["LayerShape", "LayerTimes", "estimate_times", "layer_shapes"]


@dataclass(frozen=True)
class LayerShape:
    """What decides a layer's time, but for the device.

    Attributes:
        inputs: Input channels.
        outputs: Output channels.
        groups: Groups of the convolution.
        kernel: Height and width of the kernel; ``(0, 0)`` for a linear layer.
        stride: Of the convolution.
        padding: Of the convolution, at both ends.
        dilation: Of the convolution.
        image: Height and width of the input; a linear layer's rows are ``(1, rows)``.
        positions: How often each weight is used per image.
    """

    inputs: int
    outputs: int
    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    image: tuple[int, int]
    positions: int

    @property
    def is_linear(self) -> bool:
        """Whether it is a linear layer."""
        return self.kernel == (0, 0)

    @property
    def macs(self) -> int:
        """Multiply-adds per image."""
        kernel = 1 if self.is_linear else prod(self.kernel)
        return self.positions * kernel * self.outputs * self.inputs // self.groups

    def halved(self) -> LayerShape:
        """About half the channels, at multiples of 8; narrow sides and groups stay."""
        inputs, outputs = _half(self.inputs), _half(self.outputs)
        if self.groups == self.inputs:  # depthwise: the groups are the channels
            outputs = self.outputs // self.inputs * inputs
            return replace(self, inputs=inputs, outputs=outputs, groups=inputs)
        if inputs % self.groups or outputs % self.groups:
            return self
        return replace(self, inputs=inputs, outputs=outputs)


def _half(n: int) -> int:
    return n if n < 16 else n // 16 * 8


@dataclass(frozen=True)
class LayerTimes:
    """Estimated latency as a function of the tensors' entries.

    Attributes:
        total_ms: Sum over all timed layers.
        per_entry_ms: What one entry of a weight costs per run, by tensor.
        by_tensor_ms: What all layers with a weight cost, by tensor.
        n_timed: Distinct layers that were timed.
        guessed: Weights whose layers cannot be timed alone; they count with the average.
    """

    total_ms: float
    per_entry_ms: Mapping[str, float]
    by_tensor_ms: Mapping[str, float]
    n_timed: int
    guessed: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "total_ms": self.total_ms,
            "by_tensor_ms": dict(self.by_tensor_ms),
            "per_entry_ns": {name: 1e6 * ms for name, ms in self.per_entry_ms.items()},
            "n_timed": self.n_timed,
            "guessed": list(self.guessed),
        }


def layer_shapes(network: Network) -> dict[str, tuple[str, LayerShape | None]]:
    """For each convolution and linear node: its weight and shape; None where it is of another kind.

    Example:
        >>> import torch; from torch import nn; from nnslim.network import trace_network
        >>> net = trace_network(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(2, 3, 8, 8))
        >>> weight, shape = layer_shapes(net)["conv2d"]
        >>> weight, shape.inputs, shape.outputs, shape.image, shape.macs
        ('0.weight', 3, 4, (8, 8), 3888)
    """
    result: dict[str, tuple[str, LayerShape | None]] = {}
    for name, (weight, positions) in weighted_positions(network).items():
        node = network.graph.by_name[name]
        shape = tuple(network.tensor(weight).shape)
        if node.family == "linear" and node.shape[0] % BATCH == 0:
            one = (1, 1)
            known = LayerShape(
                shape[1], shape[0], 1, (0, 0), one, (0, 0), one, (1, positions), positions
            )
        elif node.family == "convolution" and len(shape) == 4:
            known = _convolution(network, node, shape, positions)
        else:
            known = None
        result[name] = (weight, known)
    return result


def _convolution(
    network: Network, node: Node, shape: tuple[int, ...], positions: int
) -> LayerShape | None:
    source = node.operand
    assert isinstance(source, Ref)
    info = network.graph.info(source.name)
    groups, padding = node.argument("groups"), node.argument("padding")
    if not isinstance(info, TensorInfo) or info.shape[0] != BATCH or not isinstance(groups, int):
        return None
    kernel, dilation = (shape[2], shape[3]), _two(node.argument("dilation"))
    if isinstance(padding, str):
        same = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
        padding = same if padding == "same" else 0
    return LayerShape(
        inputs=shape[1] * groups,
        outputs=shape[0],
        groups=groups,
        kernel=kernel,
        stride=_two(node.argument("stride")),
        padding=_two(padding),
        dilation=dilation,
        image=(info.shape[2], info.shape[3]),
        positions=positions,
    )


def _two(value: object) -> tuple[int, int]:
    """Read an argument that is one number for both sides, or one for each."""
    first, last = (value[0], value[-1]) if isinstance(value, tuple) else (value, value)
    assert isinstance(first, int)
    assert isinstance(last, int)
    return (first, last)


def estimate_times(
    network: Network, time_ms: Callable[[Sequence[LayerShape]], Sequence[float]]
) -> LayerTimes:
    """Time the distinct layers of a network and say what each entry of their weights costs.

    Args:
        network: Any network; only its shapes count.
        time_ms: Returns the milliseconds of one run of each layer.

    Example:
        >>> import torch; from torch import nn; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 1))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> estimate_times(net, lambda layers: [1 + 1e-6 * layer.macs for layer in layers]).total_ms
        2.067968
    """
    layers = layer_shapes(network)
    shapes = list(dict.fromkeys(shape for _, shape in layers.values() if shape is not None))
    halves = [shape.halved() for shape in shapes]
    asked = list(dict.fromkeys((*shapes, *halves)))
    times = dict(zip(asked, time_ms(asked), strict=True))
    slopes = {shape: _slope(shape, half, times) for shape, half in zip(shapes, halves, strict=True)}
    timed = [shape for _, shape in layers.values() if shape is not None]
    macs = sum(shape.macs for shape in timed)
    average = sum(slopes[s] * s.macs for s in timed) / macs if macs else 1.0
    per_entry: dict[str, float] = {}
    by_tensor: dict[str, float] = {}
    for name, (weight, shape) in layers.items():
        positions = weighted_positions(network)[name][1]
        slope = average if shape is None else slopes[shape]
        entries = network.tensor(weight).numel()
        time = slope * positions * entries if shape is None else times[shape]
        per_entry[weight] = per_entry.get(weight, 0.0) + slope * positions
        by_tensor[weight] = by_tensor.get(weight, 0.0) + time
    guessed = tuple(weight for weight, shape in layers.values() if shape is None)
    return LayerTimes(sum(by_tensor.values()), per_entry, by_tensor, len(shapes), guessed)


def _slope(full: LayerShape, half: LayerShape, times: Mapping[LayerShape, float]) -> float:
    """Milliseconds per multiply-add; never below zero, whatever the noise."""
    if half.macs >= full.macs:
        return times[full] / full.macs
    return float(np.clip((times[full] - times[half]) / (full.macs - half.macs), 0.0, None))
