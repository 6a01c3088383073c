"""Which dimensions an operator runs over: the two ways in which law 1 removes channels there.

A removed channel contributes nothing to a contraction: in the masked network its entries are zero
there. Statistics (norms, means, maxima) run on the channels that are left. Everything else acts on
channels one by one or moves them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

from torch import Tensor

from nnslim.network.graph import Arg, Node, dims_of
from nnslim.network.operators import STATISTICS

__all__ = [
    "Contraction",
    "Operand",
    "RankOf",
    "contractions",
    "einsum_letters",
    "factors",
    "statistics_dims",
]

RankOf: TypeAlias = Callable[[Arg], int]

# Operands whose last dimension is summed over.
_LAST = {"linear": ("input",), "attention": ("query", "key")}


class Operand(NamedTuple):
    """Which operand of a node: an argument, or one item of an argument that is a list."""

    argument: str
    item: int | None = None

    def of(self, node: Node) -> Arg:
        """Return the operand as the graph writes it down."""
        arg = node.argument(self.argument)
        return arg if self.item is None else cast("tuple[Arg, ...]", arg)[self.item]

    def update(self, given: dict[str, Any], function: Callable[[Tensor], Tensor]) -> Tensor:
        """Replace the operand among the resolved arguments of a call; returns the new one."""
        if self.item is None:
            given[self.argument] = result = function(given[self.argument])
        else:
            items = given[self.argument]
            items[self.item] = result = function(items[self.item])
        return result


@dataclass(frozen=True)
class Contraction:
    """An operand that a node sums over, and the dimensions that go, counted from 0."""

    operand: Operand
    dims: tuple[int, ...]


def contractions(node: Node, rank: RankOf) -> tuple[Contraction, ...]:
    """Return every operand of a node that is summed over; empty for most operators.

    Args:
        node: A node of the graph.
        rank: Gives the number of dimensions of a value or tensor.

    Example:
        >>> from nnslim.network.graph import Ref
        >>> node = Node("y", "aten.bmm.default", (Ref("a"), Ref("b")), {}, None)
        >>> [(c.operand.argument, c.dims) for c in contractions(node, lambda arg: 3)]
        [('self', (2,)), ('mat2', (1,))]
    """

    def over(name: str, dim: int) -> Contraction:
        return Contraction(Operand(name), (max(rank(node.argument(name)) + dim, 0),))

    match node.family:
        case "convolution" | "transposed_convolution":
            return (Contraction(Operand("input"), (1,)),)
        case "linear" | "attention":
            return tuple(over(name, -1) for name in _LAST[node.family])
        case "matmul" | "addmm":
            left, right = factors(node)
            return (over(left, -1), over(right, -2))
        case "einsum":
            return _einsum(node)
        case "sum" | "linalg_vector_norm" | "norm":
            dims = dims_of(node.named_arguments.get("dim"), rank(node.operand))
            return (Contraction(Operand("self"), dims),)
        case _:
            return ()


def factors(node: Node) -> tuple[str, str]:
    """Names of the two arguments that a matrix product multiplies, with or without an addend.

    Example:
        >>> factors(Node("y", "aten.addmm.default", (), {}, None))
        ('mat1', 'mat2')
    """
    first, second, third, *_ = (*node.named_arguments, "")
    return (second, third) if node.family == "addmm" else (first, second)


def einsum_letters(equation: str) -> tuple[tuple[str, ...], str] | None:
    """Letters of the operands and of the result; None where one letter is not one dimension.

    Example:
        >>> einsum_letters("bid, bjd -> bij")
        (('bid', 'bjd'), 'bij')
    """
    text = equation.replace(" ", "")
    if "." in text:
        return None
    left, arrow, right = text.partition("->")
    operands = tuple(left.split(","))
    if any(len(set(letters)) < len(letters) for letters in operands):
        return None
    every = "".join(operands)
    result = right if arrow else "".join(sorted(c for c in set(every) if every.count(c) == 1))
    return operands, result


def _einsum(node: Node) -> tuple[Contraction, ...]:
    letters = einsum_letters(cast("str", node.argument("equation")))
    if letters is None:
        return ()
    operands, result = letters
    summed = (
        tuple(dim for dim, letter in enumerate(operand) if letter not in result)
        for operand in operands
    )
    return tuple(Contraction(Operand("tensors", i), dims) for i, dims in enumerate(summed) if dims)


def statistics_dims(node: Node, rank: RankOf) -> tuple[int, ...]:
    """Return the dimensions of its first operand that a node takes statistics over.

    Pixels are not named for norms whose statistics always cover all of them.

    Example:
        >>> from nnslim.network.graph import Ref
        >>> node = Node("y", "aten.softmax.int", (Ref("x"), -1), {}, None)
        >>> statistics_dims(node, lambda arg: 3)
        (2,)
    """
    match node.family:
        case "group_norm":
            return (1,)
        case "batch_norm" if node.argument("training") is True:
            return tuple(dim for dim in range(rank(node.operand)) if dim != 1)
        case "layer_norm":
            end, sizes = rank(node.operand), node.argument("normalized_shape")
            return tuple(range(end - len(cast("tuple[int, ...]", sizes)), end))
        case family if family in ("softmax", "log_softmax") or node.op in STATISTICS:
            return dims_of(node.named_arguments.get("dim"), rank(node.operand))
        case _:
            return ()
