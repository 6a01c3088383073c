"""What a network goes through for its export: half precision, pixels as input, plain attention."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor, nn

from nnslim.data.preprocess import Preprocess
from nnslim.errors import UnsupportedModelError
from nnslim.network import Network
from nnslim.network.graph import Arg, Node, Ref, TensorRef, map_arg

__all__ = ["HalfInside", "PixelsIn", "images_for", "with_plain_attention"]

_PLAIN = MappingProxyType({"memory_format": torch.contiguous_format})


class HalfInside(nn.Module):
    """Computes in float16 between a float32 input and float32 logits.

    Args:
        network: In eval mode; it is converted in place.
        input_shape: (C, H, W) of its images.

    Raises:
        UnsupportedModelError: A weight is larger than float16 can hold; names it.

    Example:
        >>> half = HalfInside(nn.Linear(2, 3), (1, 1, 2))
        >>> half(torch.zeros(1, 2)).dtype, half.network.weight.dtype
        (torch.float32, torch.float16)
    """

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.input_shape = input_shape
        most = torch.finfo(torch.float16).max
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and tensor.numel() and float(tensor.abs().max()) > most:
                largest = float(tensor.abs().max())
                message = f"{name} holds {largest:.3g}, more than float16's {most:.0f}"
                raise UnsupportedModelError(message, hint="export it without [[half]]")
        self.network = network.half()

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 logits (N, K) of float32 images (N, C, H, W)."""
        return self.network(x.half()).float()


class PixelsIn(nn.Module):
    """Takes pixels as a camera or decoder gives them: uint8, (N, H, W, C).

    Args:
        network: Takes normalised float32 images (N, C, H, W).
        preprocess: Its mean and standard deviation; size and crop stay outside.
        input_shape: (C, H, W) of its images.

    Example:
        >>> from nnslim.data.preprocess import Preprocess
        >>> net = PixelsIn(nn.Identity(), Preprocess((1, 1), (0.5,), (0.5,)), (1, 1, 1))
        >>> net(torch.tensor([[[[255]]]], dtype=torch.uint8)).flatten().tolist()
        [1.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, preprocess: Preprocess, input_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.network = network
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits (N, K) of pixels (N, H, W, C)."""
        floats = x.permute(0, 3, 1, 2).to(torch.float32)
        return self.network((floats / 255 - self.mean) / self.std)


def images_for(network: nn.Module, batch: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw random inputs: pixels for a ``PixelsIn``, else normalised images.

    Args:
        network: Has ``input_shape`` (C, H, W).
        batch: Images.
        generator: Of the random numbers; None draws none and returns zeros.
    """
    channels, height, width = (int(size) for size in network.input_shape)  # pyright: ignore
    if isinstance(network, PixelsIn):
        shape = (batch, height, width, channels)
        if generator is None:
            return torch.zeros(shape, dtype=torch.uint8)
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    shape = (batch, channels, height, width)
    return torch.zeros(shape) if generator is None else torch.randn(shape, generator=generator)


def with_plain_attention(network: Network) -> Network:
    """Copy what attention returns, and give it four dimensions, in the graph.

    The exporter decomposes attention into operators that lay out their result in another way than
    the operator itself, and a view that was planned for the one fails on the other. ONNX knows no
    layouts, so the copy is gone from the file.
    """
    nodes: list[Node] = []
    copies: dict[str, str] = {}

    def renamed(arg: Arg) -> Arg:
        return Ref(copies.get(arg.name, arg.name)) if isinstance(arg, Ref) else arg

    for node in network.graph.nodes:
        args = tuple(map_arg(arg, renamed) for arg in node.args)
        kwargs = {key: map_arg(arg, renamed) for key, arg in node.kwargs.items()}
        node = replace(node, args=args, kwargs=kwargs)  # noqa: PLW2901
        if node.family != "attention":
            nodes.append(node)
            continue
        steps = _in_four_dimensions(node)
        last = steps[-1]
        copy = replace(last, name=f"{node.name}.copy", op="aten.clone.default", kwargs=_PLAIN)
        nodes += [*steps, replace(copy, args=(Ref(last.name),))]
        copies[node.name] = copy.name
    if not copies:
        return network
    graph = replace(
        network.graph, nodes=tuple(nodes), output=map_arg(network.graph.output, renamed)
    )
    return Network(graph, network.tensors(), preprocess=network.preprocess, classes=network.classes)


def _in_four_dimensions(node: Node) -> list[Node]:
    """Give attention's operands four dimensions and take them back after: ONNX's has four."""
    extra = len(node.shape) - 4
    masked = node.argument("attn_mask") is not None
    if extra == 0 or (extra > 0 and masked):
        return [node]
    change, undo = ("aten.unsqueeze.default", (0,)), ("aten.squeeze.dims", ((0,),))
    if extra > 0:
        change = ("aten.flatten.using_ints", (0, extra))
        undo = ("aten.unflatten.int", (0, (-1, *node.shape[1 : extra + 1])))
    before: list[Node] = []

    def changed(arg: Arg) -> Arg:
        if not isinstance(arg, (Ref, TensorRef)):
            return arg
        name = f"{node.name}.{len(before)}"
        before.append(replace(node, name=name, op=change[0], args=(arg, *change[1]), kwargs={}))
        return Ref(name)

    args = tuple(changed(arg) for arg in node.args)
    kwargs = {key: changed(arg) for key, arg in node.kwargs.items()}
    inner = replace(node, name=f"{node.name}.four", args=args, kwargs=kwargs)
    after = replace(node, op=undo[0], args=(Ref(inner.name), *undo[1]), kwargs={})
    return [*before, inner, after]
