"""Two interpreters of a graph: as it is, and with what a cut removes zeroed where it is contracted.

They use the graph as data and torch's operators, and nothing of the engine's rules or edits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nnslim.network import DeviceRef, Network, Node, Ref, TensorRef
from tests.laws.alive import base_name, mask_of, outer, resolve, sides
from tests.laws.special import PRODUCTS, STATISTICS, attention, product, statistics

__all__ = ["Kept", "Masked", "Run", "gather"]

# Kept indices by tensor and dimension; a dimension that is not named keeps all of its indices.
Kept = dict[str, dict[int, Tensor]]

_CONTRACTIONS = ("conv1d", "conv2d", "conv3d", "linear")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


@dataclass
class Run:
    """One network on its way through its graph, in the precision of its inputs."""

    network: Network
    inputs: list[Tensor]
    env: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # In-place operators must not reach the caller's tensors; inside the run they must alias.
        for entry, value in zip(self.network.graph.inputs, self.inputs, strict=True):
            self.env[entry.name] = value.clone()
        dtype = self.inputs[0].dtype
        for name, tensor in self.network.tensors().items():
            copy = tensor.detach().clone()
            self.tensors[name] = copy.to(dtype) if copy.is_floating_point() else copy

    def argument(self, arg: Any) -> Any:  # noqa: PLR0911 - one line per kind
        """The value of an argument."""
        match arg:
            case Ref():
                return self.env[arg.name]
            case TensorRef():
                return self.tensors[arg.name]
            case DeviceRef():
                return torch.device("cpu")
            case tuple():
                return [self.argument(entry) for entry in arg]
            case Mapping():
                return {key: self.argument(entry) for key, entry in arg.items()}
            case torch.float32:
                return self.inputs[0].dtype
            case _:
                return arg

    def step(self, node: Node) -> Any:
        """Run one node."""
        args = [self.argument(arg) for arg in node.args]
        kwargs = {key: self.argument(arg) for key, arg in node.kwargs.items()}
        value = self.call(node, args, kwargs)
        if isinstance(value, Tensor) and value.dtype == torch.float32:
            value = value.to(self.inputs[0].dtype)  # made from literals, in torch's default
        self.env[node.name] = value
        return value

    def call(self, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a node's operator."""
        return resolve(node.op)(*args, **kwargs)

    def outputs(self) -> list[Tensor]:
        """The network's outputs, in order."""
        return list(_tensors(self.argument(self.network.graph.output)))


@dataclass
class Masked(Run):
    """The uncut network with removed activations zeroed where they are contracted.

    Attributes:
        kept: What stays of each tensor.
        columns: Input channels that stay, by the weight of a grouped convolution whose groups
            each lose some.
        masks: Which entries of each value so far are alive.
        taken: What the last contraction took of each dimension of its input, else None.
        removed: Largest activation that was zeroed.
    """

    kept: Kept = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Any] = field(default_factory=dict)
    taken: list[Tensor] | None = None
    removed: float = 0.0

    def mask(self, arg: Any) -> Any:
        """The argument with masks in the place of tensors."""
        match arg:
            case Ref():
                return self._mask_of_value(self.env[arg.name], self.masks.get(arg.name))
            case TensorRef():
                tensor = self.tensors[arg.name]
                if not tensor.is_floating_point():
                    return tensor  # an index moves masks and is none itself
                return outer(tensor.shape, self.kept.get(arg.name, {}))
            case tuple():
                return [self.mask(entry) for entry in arg]
            case _:
                return self.argument(arg)

    @staticmethod
    def _mask_of_value(value: Any, mask: Any) -> Any:
        if mask is not None or not isinstance(value, Tensor):
            return value if mask is None else mask
        return outer(value.shape, {})  # an input

    def call(self, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a node's operator on what is left of its input; note what is left of its value."""
        self.taken = None
        masks = [self.mask(arg) for arg in node.args]
        name = base_name(node.op)
        found = None
        if name in _CONTRACTIONS:
            found = self._contraction(node, args, kwargs, masks)
        elif name in _TRANSPOSED:
            found = self._transposed(node, args, kwargs, masks)
        elif name in PRODUCTS:
            found = product(node.op, args, masks, self._zeroed)
        elif name == "scaled_dot_product_attention":
            keys = {k: self.mask(v) for k, v in node.kwargs.items()}
            if "attn_mask" in kwargs:
                args, masks = [*args, kwargs["attn_mask"]], [*masks, keys["attn_mask"]]
                kwargs = {k: v for k, v in kwargs.items() if k != "attn_mask"}
            found = attention(node.op, args, kwargs, masks, self._zeroed)
        elif name in STATISTICS:
            found = statistics(node.op, args, kwargs, masks)
            if found is not None:
                self._note(args[0], masks[0])
        if found is None:
            found = self._plain(node, name, args, kwargs, masks)
        value, mask = found
        self.masks[node.name] = mask
        return value

    def _plain(
        self, node: Node, name: str, args: list[Any], kwargs: dict[str, Any], masks: list[Any]
    ) -> tuple[Any, Any]:
        if name == "sum":
            args[0] = self._zeroed(args[0], masks[0])
        value = super().call(node, args, kwargs)
        if name in ("batch_norm", "instance_norm", "group_norm"):
            first, last = (2, 4) if name == "group_norm" else (1, 5)
            own = [m for m in masks[first:last] if isinstance(m, Tensor)]
            masks = [masks[0], *(m.view(-1, *[1] * (value.dim() - 2)) for m in own)]
        return value, mask_of(node.op, value, masks, kwargs)

    def _note(self, value: Tensor, mask: Tensor) -> Tensor:
        masked = torch.where(mask, value, torch.zeros((), dtype=value.dtype))
        self.removed = max(self.removed, float((value - masked).abs().max()))
        return masked

    def _zeroed(self, value: Tensor, mask: Tensor) -> Tensor:
        return self._note(value, mask)

    def _contraction(
        self, node: Node, args: list[Any], kwargs: dict[str, Any], masks: list[Any]
    ) -> tuple[Tensor, Tensor]:
        rows, columns = sides(masks[1])[:2]
        linear = base_name(node.op) == "linear"
        dim = args[0].dim() - 1 if linear else 1
        groups = 1 if linear else (args[6] if len(args) > 6 else kwargs.get("groups", 1))
        weight = node.args[1]
        if groups > 1 and isinstance(weight, TensorRef) and weight.name in self.columns:
            columns = self.columns[weight.name]
        elif groups > 1:
            columns = _columns_of_groups(rows, masks[1].shape, groups)
        self.taken = sides(masks[0])
        self.taken[dim] = columns
        args[0] = self._zeroed(args[0], outer(args[0].shape, {dim: columns}))
        value = super().call(node, args, kwargs)
        # Dimensions that are not contracted keep what they have, such as tokens of a mixer.
        outside = {} if not linear else dict(enumerate(self.taken[:-1]))
        return value, outer(value.shape, {**outside, dim: rows})

    def _transposed(
        self, node: Node, args: list[Any], kwargs: dict[str, Any], masks: list[Any]
    ) -> tuple[Tensor, Tensor]:
        """Weight dimension 0 is the input's channels; 1 the output's, of each group."""
        columns, rows = sides(masks[1])[:2]
        groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
        self.taken = sides(masks[0])
        self.taken[1] = columns
        args[0] = self._zeroed(args[0], outer(args[0].shape, {1: columns}))
        value = super().call(node, args, kwargs)
        if groups > 1:
            left = torch.unique(columns // (masks[1].shape[0] // groups))
            size = masks[1].shape[1]
            rows = (left[:, None] * size + torch.arange(size)).flatten()
        return value, outer(value.shape, {1: rows})


def gather(value: Tensor, kept: list[Tensor]) -> Tensor:
    """Keep some indices of each of the last dimensions."""
    for offset, index in enumerate(reversed(kept), start=1):
        if len(index) < value.shape[-offset]:
            value = value.index_select(-offset, index)
    return value


def _columns_of_groups(rows: Tensor, shape: torch.Size, groups: int) -> Tensor:
    """Input channels of the convolution groups of which some output row is left."""
    left = torch.unique(rows // (shape[0] // groups))
    return (left[:, None] * shape[1] + torch.arange(shape[1])).flatten()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)
