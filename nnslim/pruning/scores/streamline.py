"""A private copy of a network that computes the same in less time, for runs that are repeated.

deepcopy ──► in-place operators to plain ones ──► batch norms folded ──► channels last

Where something stands in the way (a shared weight, a value read twice) nothing is rewritten.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch

from nnslim.network.graph import Ref, TensorInfo, TensorRef, map_arg, refs, tensor_refs
from nnslim.network.network import Network
from nnslim.network.operators import BATCH_NORM_TENSORS

if TYPE_CHECKING:
    from torch import Tensor

    from nnslim.network.graph import Arg, Graph, Node

__all__ = ["channels_last", "reusable_operand", "single_uses", "streamlined"]

# Operators with an in-place form of the same arguments.
_UNARY = (
    "relu relu6 silu hardswish hardsigmoid hardtanh leaky_relu gelu elu sigmoid tanh mish clamp"
)
_BINARY = "add sub mul"
_IN_PLACE: Mapping[str, str] = {
    f"aten.{name}.{kind}": f"aten.{name}_.{kind}"
    for names, kind in ((_UNARY, "default"), (_BINARY, "Tensor"))
    for name in names.split()
}
_PLAIN: Mapping[str, str] = {in_place: plain for plain, in_place in _IN_PLACE.items()}
# Families that always return new memory.
_ALLOCATING = ("convolution", "linear", "batch_norm")


def streamlined(network: Network) -> Network:
    """Return a copy in eval mode that computes the same function faster; for inference only.

    Names of nodes and of weights stay. Folded weights are rounded once more: outputs agree to
    rounding, not to the bit.

    Example:
        >>> from torch import nn; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        >>> network = trace_network(model.eval(), torch.zeros(2, 3, 8, 8))
        >>> [node.op for node in streamlined(network).graph.nodes]
        ['aten.conv2d.default', 'aten.relu.default']
    """
    result = copy.deepcopy(network).eval()
    graph = _fold_norms(result, _plain(network.graph))
    return channels_last(Network(graph, result.tensors()).eval())


def channels_last(network: Network) -> Network:
    """Lay out the images' weights channel by channel; volumes have another layout."""
    for tensor in network.tensors().values():
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network


def single_uses(graph: Graph) -> frozenset[str]:
    """Values that exactly one argument of one node refers to: nothing else can see their memory."""
    uses = Counter(ref.name for node in graph.nodes for ref in refs(node.arguments))
    uses.update(ref.name for ref in refs(graph.output) for _ in range(2))
    return frozenset(name for name, count in uses.items() if count == 1)


def reusable_operand(graph: Graph, node: Node, once: frozenset[str]) -> tuple[str, str] | None:
    """Return the first operand if a node may write its result over it, and the in-place operator.

    None where there is no such operator, something else may see the operand's memory (``once`` is
    ``single_uses`` of the graph), or the result has another shape or element type.
    """
    operator = _IN_PLACE.get(_PLAIN.get(node.op, node.op))
    operand = node.operand
    if operator is None or not isinstance(operand, Ref) or operand.name not in once:
        return None
    producer = graph.by_name.get(operand.name)
    if producer is None:
        return None
    if producer.family not in _ALLOCATING and _PLAIN.get(producer.op, producer.op) not in _IN_PLACE:
        return None
    if producer.op in _PLAIN and reusable_operand(graph, producer, once) is None:
        return None  # an in-place operator whose result somebody else can see
    operands = [graph.info(ref.name) for ref in refs(node.arguments)]
    dtypes = {info.dtype for info in operands if isinstance(info, TensorInfo)}
    same = producer.value == node.value and len(dtypes) == 1
    return (operand.name, operator) if same else None


def _plain(graph: Graph) -> Graph:
    """Replace in-place operators by plain ones where nothing but their result is read later."""
    once = single_uses(graph)
    return graph.with_nodes(
        tuple(
            replace(node, op=_PLAIN[node.op])
            if node.op in _PLAIN and reusable_operand(graph, node, once)
            else node
            for node in graph.nodes
        )
    )


def _fold_norms(network: Network, graph: Graph) -> Graph:
    """Scale the weights of convolutions in place of the batch norms that follow them."""
    once = single_uses(graph)
    users = Counter(ref.name for node in graph.nodes for ref in tensor_refs(node.arguments))
    folded: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for norm in graph.nodes:
        conv = _foldable(graph, norm, once, users)
        if conv is not None:
            folded[conv.name] = _folded(network, conv, norm)
            renamed[norm.name] = conv.name

    def follow(arg: Arg) -> Arg:
        return Ref(renamed.get(arg.name, arg.name)) if isinstance(arg, Ref) else arg

    nodes = (folded.get(node.name, node) for node in graph.nodes if node.name not in renamed)
    rewritten = tuple(
        replace(
            node,
            args=tuple(map_arg(arg, follow) for arg in node.args),
            kwargs={key: map_arg(arg, follow) for key, arg in node.kwargs.items()},
        )
        for node in nodes
    )
    return replace(graph, nodes=rewritten, output=map_arg(graph.output, follow))


def _foldable(
    graph: Graph, norm: Node, once: frozenset[str], users: Mapping[str, int]
) -> Node | None:
    """Return the convolution before a batch norm, if the norm is all that reads it."""
    if norm.family != "batch_norm" or norm.argument("training") is not False:
        return None
    source = norm.operand
    conv = graph.by_name.get(source.name) if isinstance(source, Ref) else None
    if conv is None or conv.family != "convolution" or conv.name not in once:
        return None
    # Both are overwritten, so nothing else may use them.
    overwritten = (conv.argument("weight"), norm.argument("running_mean"))
    private = all(isinstance(arg, TensorRef) and users[arg.name] == 1 for arg in overwritten)
    bias = conv.argument("bias")
    plain = bias is None or isinstance(bias, TensorRef)
    return conv if private and plain else None


def _folded(network: Network, conv: Node, norm: Node) -> Node:
    """Fold a norm into its convolution; the bias takes the place of the running mean."""

    def double(arg: Arg) -> Tensor | None:
        return network.tensor(arg.name).detach().double() if isinstance(arg, TensorRef) else None

    scale, shift, mean, variance = (double(norm.argument(n)) for n in BATCH_NORM_TENSORS)
    assert mean is not None
    assert variance is not None
    factor = (variance + cast("float", norm.argument("eps"))).rsqrt()
    factor = factor if scale is None else factor * scale
    weight = network.tensor(cast("TensorRef", conv.argument("weight")).name)
    bias = double(conv.argument("bias"))
    offset = (-mean if bias is None else bias - mean) * factor
    offset = offset if shift is None else offset + shift
    shape = (-1, *(1 for _ in range(weight.dim() - 1)))
    weight.data = (weight.detach().double() * factor.reshape(shape)).to(weight.dtype)
    name = cast("TensorRef", norm.argument("running_mean")).name
    network.tensor(name).data = offset.to(weight.dtype)
    args = {**conv.named_arguments, "bias": TensorRef(name)}
    return replace(conv, args=tuple(args.values()), kwargs={})
