"""Which dimensions an operator runs over: the two ways in which law 1 removes channels there.

A removed channel contributes nothing to a contraction: in the masked network its entries are zero
there. Statistics (norms, means, maxima) run on the channels that are left. Everything else acts on
channels one by one or moves them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

from nnslim.network.graph import Arg, Node, dims_of
from nnslim.network.operators import argument_names

__all__ = ["Contraction", "ShapeOf", "contractions", "einsum_letters", "statistics_dims"]

ShapeOf: TypeAlias = Callable[[Arg], "tuple[int, ...]"]

# Sums over the last dimension of its first so many operands.
_LAST = {"linear": 1, "scaled_dot_product_attention": 2}
_PRODUCTS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "matmul": ("self", "other"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}


_REDUCTIONS = ("mean", "var", "std", "var_mean", "amax", "amin", "logsumexp")
_NORMALISING = ("softmax", "log_softmax", "layer_norm", "rms_norm", "group_norm", "batch_norm")


@dataclass(frozen=True)
class Contraction:
    """One operand that a node sums over.

    Attributes:
        path: Where the operand stands in ``node.args``; two numbers for an operand in a list.
        dims: The dimensions summed over, counted from 0.
    """

    path: tuple[int, ...]
    dims: tuple[int, ...]


def contractions(node: Node, shape: ShapeOf) -> tuple[Contraction, ...]:
    """Return every operand of a node that is summed over; empty for most operators.

    Args:
        node: A node of the graph.
        shape: Gives the shape of a value or tensor.

    Example:
        >>> from nnslim.network.graph import Ref
        >>> node = Node("y", "aten.bmm.default", (Ref("a"), Ref("b")), {}, None)
        >>> contractions(node, lambda arg: (8, 2, 3))
        (Contraction(path=(0,), dims=(2,)), Contraction(path=(1,), dims=(1,)))
    """
    family = node.op.split(".")[1] if node.op.startswith("aten.") else ""
    result: tuple[Contraction, ...] = ()
    if family.startswith("conv"):
        result = (Contraction((0,), (1,)),)
    elif family in _LAST:
        ranks = [len(shape(arg)) for arg in node.args[: _LAST[family]]]
        result = tuple(Contraction((i,), (rank - 1,)) for i, rank in enumerate(ranks))
    elif family in _PRODUCTS:
        result = _product(node, family, shape)
    elif family == "einsum":
        result = _einsum(node)
    elif family in ("sum", "linalg_vector_norm", "norm"):
        result = _reduction(node, shape)
    return result


def _product(node: Node, family: str, shape: ShapeOf) -> tuple[Contraction, ...]:
    names = list(argument_names(node.op))
    left, right = (names.index(name) for name in _PRODUCTS[family])
    ranks = [len(shape(node.args[index])) for index in (left, right)]
    return (
        Contraction((left,), (ranks[0] - 1,)),
        Contraction((right,), (max(ranks[1] - 2, 0),)),
    )


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
    letters = einsum_letters(cast("str", node.args[0]))
    if letters is None:
        return ()
    operands, result = letters
    found = (
        Contraction((1, i), tuple(d for d, letter in enumerate(own) if letter not in result))
        for i, own in enumerate(operands)
    )
    return tuple(entry for entry in found if entry.dims)


def _reduction(node: Node, shape: ShapeOf) -> tuple[Contraction, ...]:
    names = list(argument_names(node.op))
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    dims = dims_of(given.get("dim"), len(shape(node.args[0])))
    return (Contraction((0,), dims),)


def statistics_dims(node: Node, shape: ShapeOf) -> tuple[int, ...]:
    """Return the dimensions of its first operand that a node takes statistics over.

    Pixels are not named for norms whose statistics always cover all of them.

    Example:
        >>> from nnslim.network.graph import Ref
        >>> node = Node("y", "aten.softmax.int", (Ref("x"), -1), {}, None)
        >>> statistics_dims(node, lambda arg: (8, 2, 3))
        (2,)
    """
    family = node.op.split(".")[1] if node.op.startswith("aten.") else ""
    if family not in (*_REDUCTIONS, *_NORMALISING):
        return ()
    rank = len(shape(node.args[0]))
    if family == "group_norm":
        return (1,)
    if family == "batch_norm":
        return tuple(d for d in range(rank) if d != 1) if node.args[5] is True else ()
    if family.endswith("_norm"):
        last = len(cast("tuple[int, ...]", node.args[1]))
        return tuple(range(rank - last, rank))
    names = list(argument_names(node.op))
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    return dims_of(given.get("dim"), rank)
