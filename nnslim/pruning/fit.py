"""Weights fitted anew after a removal, so that each layer gives what it gave before.

A layer whose inputs have changed gets the weights with the least squared error against its earlier
outputs, on some training images and over what is left of its inputs. Layers are taken in the order
of execution, so that a later one makes up for what an earlier one could not. Neither labels nor
gradients are needed. Layer-wise least squares for channel pruning: He, Zhang and Sun, ICCV 2017.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional

from nnslim.network.graph import Ref, TensorRef, refs, tensor_refs
from nnslim.surgery.masked import kept_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nnslim.channels.labels import Labels
    from nnslim.network.graph import Node
    from nnslim.network.network import Network
    from nnslim.surgery.edit import ResolvedEdit

__all__ = ["Refitted", "refit_weights"]

# Output positions that a fit uses: so many for each input of the layer, and at least so many.
_PER_INPUT, _FEWEST = 8, 8192
# How strongly weights are held where they are, in mean squares of the inputs.
_RIDGE = 1e-2


@dataclass(frozen=True)
class Refitted:
    """What fitting did to one layer: errors are squared, and relative to its outputs' squares."""

    weight: str
    before: float  # with the old weights
    after: float  # with the new ones, on the same positions


def refit_weights(
    original: Network, cut: Network, resolved: ResolvedEdit, images: Tensor, seed: int = 0
) -> tuple[Refitted, ...]:
    """Fit the weights and biases of a cut network to the network before the cut, in place.

    Two-dimensional convolutions without groups and linear layers are fitted; all others, and
    weights that several layers share, stay as they are. Returns what fitting did to each layer, in
    the order of execution.

    Args:
        original: The network before; in eval mode.
        cut: What the edit leaves of it; in eval mode.
        resolved: The edit and the groups of ``original``.
        images: (N, C, H, W) as the networks take them, on their device.
        seed: Of the choice of output positions.

    Example:
        >>> from torch import nn; from nnslim.channels import channel_groups
        >>> from nnslim.network import trace_network; from nnslim.surgery import Edit, apply_edit
        >>> from nnslim.surgery.edit import resolve_edit
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> groups, edit = channel_groups(net), Edit({"0": torch.arange(6).numpy()})
        >>> cut, resolved = apply_edit(net, edit, groups).eval(), resolve_edit(groups, edit)
        >>> (layer,) = refit_weights(net, cut, resolved, torch.randn(64, 3, 8, 8))
        >>> layer.weight, layer.after < layer.before
        ('2.weight', True)
    """
    assert not original.training
    assert not cut.training
    with torch.no_grad():
        return tuple(_refit(original, cut, resolved, images, torch.Generator().manual_seed(seed)))


def _refit(
    original: Network,
    cut: Network,
    resolved: ResolvedEdit,
    images: Tensor,
    generator: torch.Generator,
) -> Iterator[Refitted]:
    """Run both networks side by side, and fit each layer before the cut one runs it."""
    # A copy for each, because an operator may write to its input.
    wide: dict[str, object] = {original.graph.inputs[0].name: images.clone()}
    narrow: dict[str, object] = {cut.graph.inputs[0].name: images.clone()}
    layers = _layers(original, cut)
    for before, after in zip(original.program.steps, cut.program.steps, strict=True):
        value = original.program.execute(before, original, wide, images.device)
        if after.node.name in layers:
            inputs = cast("Tensor", narrow[cast("Ref", after.node.operand).name])
            labels = cast("Labels", resolved.channels.values[after.node.name])
            target = kept_entries(cast("Tensor", value), labels, resolved)
            yield _Layer(after.node, cut).fit(inputs, target, generator)
        cut.program.execute(after, cut, narrow, images.device)


def _layers(original: Network, cut: Network) -> set[str]:
    """Names of the nodes to fit: layers with inputs that the cut has changed."""
    uses = Counter(ref.name for node in cut.graph.nodes for ref in tensor_refs(node.arguments))
    moved: set[str] = set()
    layers: set[str] = set()
    for node in cut.graph.nodes:
        inputs_moved = any(ref.name in moved for ref in refs(node.arguments))
        resized = any(
            original.tensor(ref.name).shape != cut.tensor(ref.name).shape
            for ref in tensor_refs(node.arguments)
        )
        if inputs_moved or resized:
            moved.add(node.name)
        if inputs_moved and _can_fit(node) and uses[cast("str", node.layer_weight)] == 1:
            layers.add(node.name)
    return layers


def _can_fit(node: Node) -> bool:
    if node.layer_weight is None or not isinstance(node.operand, Ref):
        return False
    if node.family == "linear":
        return True
    return node.op == "aten.conv2d.default" and node.argument("groups") == 1


@dataclass(frozen=True)
class _Layer:
    """A convolution or linear layer of the cut network."""

    node: Node
    network: Network

    def fit(self, inputs: Tensor, target: Tensor, generator: torch.Generator) -> Refitted:
        """Replace the weight, and the bias where there is one."""
        name = cast("str", self.node.layer_weight)
        weight = self.network.tensor(name)
        argument = self.node.argument("bias")
        bias = self.network.tensor(argument.name) if isinstance(argument, TensorRef) else None
        n_inputs = weight.shape[1:].numel()
        rows, outputs = self._rows(inputs, target, n_inputs, generator)
        old = weight.flatten(1).double()
        if bias is not None:
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
            old = torch.cat([old, bias.double()[:, None]], 1)
        gram = rows.T @ rows
        ridge = _RIDGE * gram.diagonal().mean().clamp_min(1e-30)
        gram.diagonal().add_(ridge)
        new = torch.linalg.solve(gram, rows.T @ outputs + ridge * old.T).T
        scale = outputs.square().sum().clamp_min(1e-30)
        before, after = (float((rows @ w.T - outputs).square().sum() / scale) for w in (old, new))
        if after < before:  # never so without rounding, and never with NaN
            weight.copy_(new[:, :n_inputs].reshape(weight.shape))
            if bias is not None:
                bias.copy_(new[:, -1])
        return Refitted(name, before, min(before, after))

    def _rows(
        self, inputs: Tensor, target: Tensor, n_inputs: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Inputs (P, n_inputs) and outputs (P, C_out) of some positions, in float64."""
        if self.node.family == "convolution":
            inputs = self._patches(inputs)  # (N, H_out, W_out, C_in, kernel, kernel), a view
            target = target.permute(0, 2, 3, 1)
        places = target.shape[:-1]
        total, most = places.numel(), max(_FEWEST, _PER_INPUT * n_inputs)
        chosen = torch.arange(total)
        if total > most:
            chosen = torch.randperm(total, generator=generator)[:most]
        index = torch.unravel_index(chosen.to(inputs.device), tuple(places))
        return inputs[index].flatten(1).double(), target[index].double()

    def _patches(self, images: Tensor) -> Tensor:
        stride, padding, dilation = (
            _pair(cast("Sequence[int]", self.node.argument(name)))
            for name in ("stride", "padding", "dilation")
        )
        kernel = self.network.tensor(cast("str", self.node.layer_weight)).shape[2:]
        images = functional.pad(images, (padding[1], padding[1], padding[0], padding[0]))
        out = [
            (images.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
            for i in (0, 1)
        ]
        n, c, h, w = images.stride()
        return images.as_strided(
            (len(images), *out, images.shape[1], *kernel),
            (n, h * stride[0], w * stride[1], c, h * dilation[0], w * dilation[1]),
        )


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return (value[0], value[-1])
