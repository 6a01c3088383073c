"""Runs of a network for a comparison: in a given precision, and with removed channels masked.

At every contraction the removed channels of the operands are zero, and a norm over channels of
which some are removed runs on those that are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from nnslim.channels.contractions import contractions, statistics_dims
from nnslim.network.graph import Arg, Node, Ref, TensorRef

if TYPE_CHECKING:
    from nnslim.channels.labels import DimLabels, Labels
    from nnslim.network.interpreter import Step
    from nnslim.network.network import Network
    from nnslim.surgery.edit import ResolvedEdit

__all__ = ["MaskedSide", "Side", "kept_entries"]


class Side:
    """One network on its way through its program, in a precision of choice.

    It is the program's runtime: a tensor is converted when a node asks for it, so that checking a
    network costs no second copy of its weights.
    """

    training = False

    def __init__(self, network: Network, inputs: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        self.network = network
        # A copy for each side, because an operator may write to its input.
        self.env: dict[str, object] = {
            key: value.to(dtype, copy=True) for key, value in inputs.items()
        }
        self.dtype = dtype

    def tensor(self, name: str) -> Tensor:
        """Return a copy of a parameter or buffer, on the CPU and in this side's precision."""
        tensor = self.network.tensor(name).detach()
        dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to("cpu", dtype, copy=True)

    def execute(self, step: Step) -> object:
        """Run one step."""
        return self.network.program.execute(step, self, self.env, torch.device("cpu"), self._call)

    def _call(self, step: Step, args: list[object], kwargs: dict[str, object]) -> object:
        """Call an operator in this side's precision, whatever literals and defaults say."""
        args = [self.dtype if arg is torch.float32 else arg for arg in args]
        kwargs = {k: self.dtype if arg is torch.float32 else arg for k, arg in kwargs.items()}
        value = step.function(*args, **kwargs)
        if isinstance(value, Tensor) and value.dtype == torch.float32:
            return value.to(self.dtype)
        return value


class MaskedSide(Side):
    """The network before an edit, computing what it must compute without the removed channels.

    Attributes:
        removed: Largest activation that was set to zero or left out so far.
    """

    def __init__(
        self,
        network: Network,
        inputs: Mapping[str, Tensor],
        dtype: torch.dtype,
        edit: ResolvedEdit,
    ) -> None:
        super().__init__(network, inputs, dtype)
        self.edit = edit
        self.removed = 0.0

    def _call(self, step: Step, args: list[object], kwargs: dict[str, object]) -> object:
        node = step.node
        if self._statistics(node):
            return self._gathered(step, args, kwargs)
        summed = contractions(node, self._rank)
        if not summed:
            return super()._call(step, args, kwargs)
        given = step.by_name(args, kwargs)
        for place in summed:
            zeroed = partial(self._zeroed, place.operand.of(node), place.dims)
            place.operand.update(given, zeroed)
        return super()._call(step, [], given)

    def _rank(self, arg: Arg) -> int:
        if isinstance(arg, Ref):
            return cast("Tensor", self.env[arg.name]).dim()
        assert isinstance(arg, TensorRef)
        return self.network.tensor(arg.name).dim()

    def _labels(self, arg: Arg) -> Labels | None:
        if isinstance(arg, TensorRef):
            return self.edit.channels.tensors.get(arg.name)
        values = self.edit.channels.values
        return cast("Labels | None", values.get(arg.name)) if isinstance(arg, Ref) else None

    def _kept(self, labels: Labels | None, dim: int) -> Tensor | None:
        """Indices that stay of a dimension that loses some, else None."""
        kept = None if labels is None else self.edit.kept(labels[dim])
        return None if kept is None else torch.from_numpy(kept)

    def _zeroed(self, arg: Arg, dims: Sequence[int], value: Tensor) -> Tensor:
        """The operand with its removed channels zeroed along the dimensions that are summed."""
        labels, masked = self._labels(arg), value
        for dim in dims:
            kept = self._kept(labels, dim)
            if kept is not None:
                mask = torch.zeros(value.shape[dim], dtype=value.dtype).index_fill(0, kept, 1.0)
                masked = masked * mask.view([-1 if d == dim else 1 for d in range(value.dim())])
        if masked is not value:
            self._note(value - masked)
        return masked

    def _note(self, removed: Tensor) -> None:
        self.removed = max(self.removed, float(removed.abs().max()))

    def _statistics(self, node: Node) -> bool:
        """Whether a norm or reduction runs over channels of which some were removed."""
        labels = self._labels(node.operand)
        if labels is not None and node.family == "group_norm":
            return self._parts_of_groups(labels[1], cast("int", node.argument("num_groups")))
        dims = statistics_dims(node, self._rank)
        return any(self._kept(labels, dim) is not None for dim in dims)

    def _parts_of_groups(self, channels: DimLabels, groups: int) -> bool:
        """Whether some norm group lost a part; the statistics of whole ones do not change."""
        if channels is None:
            return False
        alive = self.edit.alive[self.edit.channels.component[channels]].reshape(groups, -1)
        return bool((alive.any(axis=1) & ~alive.all(axis=1)).any())

    def _gathered(self, step: Step, args: list[object], kwargs: dict[str, object]) -> object:
        """Run an operator on what is left of its operands, whatever the cut network's sizes say."""
        left = {
            name: self._left(step.node.argument(name), value)
            for name, value in step.by_name(args, kwargs).items()
        }
        if step.node.family == "layer_norm":
            n_dims = len(cast("Sequence[int]", left["normalized_shape"]))
            left["normalized_shape"] = list(cast("Tensor", left["input"]).shape[-n_dims:])
        value = super()._call(step, [], left)
        labels = self.edit.channels.values[step.node.name]
        if isinstance(value, Tensor):
            return self._spread(value, cast("Labels", labels))
        pairs = zip(cast("Sequence[Tensor]", value), cast("Sequence[Labels]", labels), strict=True)
        return [self._spread(item, along) for item, along in pairs]

    def _left(self, arg: Arg, value: object) -> object:
        labels = self._labels(arg)
        if not isinstance(value, Tensor) or labels is None:
            return value
        for dim, size in enumerate(value.shape):
            kept = self._kept(labels, dim)
            if kept is not None:
                if isinstance(arg, Ref):  # not a weight of the norm
                    gone = np.setdiff1d(np.arange(size), kept.numpy())
                    self._note(value.index_select(dim, torch.from_numpy(gone)))
                value = value.index_select(dim, kept)
        return value

    def _spread(self, value: Tensor, labels: Labels) -> Tensor:
        """Put what is left back in its place, with zeros between."""
        for dim, along in enumerate(labels):
            kept = self._kept(labels, dim)
            if kept is not None and along is not None:
                shape = [along.size if d == dim else s for d, s in enumerate(value.shape)]
                value = value.new_zeros(shape).index_copy(dim, kept, value)
        return value


def kept_entries(value: Tensor, labels: Labels, edit: ResolvedEdit) -> Tensor:
    """What a cut leaves of a value whose dimensions carry these labels."""
    for dim, along in enumerate(labels):
        kept = edit.kept(along)
        if kept is not None:
            value = value.index_select(dim, torch.from_numpy(kept).to(value.device))
    return value
