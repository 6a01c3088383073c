"""What one input channel adds to the output of a layer: the rest of the layer need not run again.

    layer(x without channel c) = layer(x) - layer_c(x_c)

``layer_c`` is the layer with the weights of that one channel and without its bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from nnslim.network.graph import Ref, TensorRef, tensor_refs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from nnslim.network.interpreter import Step
    from nnslim.network.network import Network
    from nnslim.pruning.scores.removal import Reading
    from nnslim.pruning.scores.replay import Replay

__all__ = ["Layer", "enter"]


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer at the end of a replay's prefix."""

    step: Step
    weight: str
    value: Tensor  # what it returned
    alone: bool  # whether no other node uses the weight
    _x: Tensor
    _dim: int

    def without(self, network: Network, positions: np.ndarray) -> Tensor | None:
        """Return a new output without input channels ``(k,)``; None where they add nothing to it.

        The network holds the weight.
        """
        index = torch.from_numpy(positions).to(self._x.device)
        x = self._x.index_select(self._dim, index)
        weight = network.tensor(self.weight).index_select(1, index)
        if not (x.any() and weight.any()):
            return None
        arguments = {**self.step.node.named_arguments, "input": x, "weight": weight, "bias": None}
        part = cast("Tensor", self.step.function(**arguments))
        return torch.sub(self.value, part, out=part)


def enter(
    network: Network, replay: Replay, start: int, readings: Sequence[Reading]
) -> Layer | None:
    """Run the prefix up to node number ``start`` and, if it is a plain layer, through it.

    That node is the first to read the groups of ``readings``. Layers with several groups, other
    operators, and layers whose output a later node overwrites are no plain layers: the result is
    None, and the prefix ends at ``start`` or before.
    """
    replay.advance(start)
    step = network.program.steps[start]
    operands = _operands(step)
    if operands is None or replay.at != start or not replay.can_start(start + 1):
        return None
    source, weight, dim = operands
    if not all(any(m.tensor == weight for m in reading.weights) for reading in readings):
        return None
    x = cast("Tensor", replay.value(source))
    replay.advance(start + 1)
    value = cast("Tensor", replay.value(step.node.name))
    nodes = network.graph.nodes
    users = sum(any(ref.name == weight for ref in tensor_refs(n.arguments)) for n in nodes)
    return Layer(step, weight, value, users == 1, x, dim)


def _operands(step: Step) -> tuple[str, str, int] | None:
    """Names of the input and the weight of a layer, and the input's channel dimension."""
    node = step.node
    if node.family not in ("convolution", "linear") or node.name in step.dead:
        return None
    if node.named_arguments.get("groups", 1) != 1:
        return None
    source, weight = node.argument("input"), node.argument("weight")
    if not isinstance(source, Ref) or not isinstance(weight, TensorRef):
        return None
    rank = len(node.shape)
    return source.name, weight.name, rank - 1 if node.family == "linear" else 1
