"""Which entries of a value are alive: a boolean twin of the value, run through the same operators.

Nothing is looked up in the engine. A weight or statistic kills the entries it lost, operators that
move entries move their masks by being called on them, and everything else joins the masks of its
operands by broadcasting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["LawBrokenError", "mask_of", "outer", "resolve", "sides"]

_MOVES = frozenset(
    [
        "alias",
        "clone",
        "contiguous",
        "detach",
        "reshape",
        "view",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "permute",
        "transpose",
        "t",
        "numpy_T",
        "expand",
        "cat",
        "stack",
        "split",
        "split_with_sizes",
        "chunk",
        "tensor_split",
        "unbind",
        "slice",
        "select",
        "narrow",
        "index_select",
        "getitem",
        "flip",
        "roll",
        "repeat",
        "lift_fresh_copy",
        "index",
        "tile",
        "repeat_interleave",
        "unfold",
        "movedim",
        "expand_as",
        "reshape_as",
        "view_as",
    ]
)
_MIRRORED = ("reflection_pad2d", "replication_pad2d")
_REDUCTIONS = frozenset(["mean", "sum", "amax", "amin", "var", "std", "logsumexp"])
_PYTHON = {
    "getitem": lambda a, b: a[b],
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "neg": lambda a: -a,
}


class LawBrokenError(AssertionError):
    """The networks differ, or the oracle has no opinion about an operator that meets a cut."""


def resolve(op: str) -> Callable[..., Any]:
    """Look an operator up by its name in a graph."""
    family, name, *overload = op.split(".")
    if family == "python":
        return _PYTHON[name]
    return getattr(getattr(torch.ops.aten, name), overload[0])


def base_name(op: str) -> str:
    """``aten.relu_.default`` -> ``relu``."""
    return op.split(".")[1].rstrip("_")


def outer(shape: Sequence[int], kept: dict[int, Tensor]) -> Tensor:
    """Mask of a tensor of which only some indices stay along some dimensions."""
    mask = torch.ones(tuple(shape), dtype=torch.bool)
    for dim, index in kept.items():
        along = torch.zeros(shape[dim], dtype=torch.bool)
        along[index] = True
        mask &= along.view([-1 if d == dim else 1 for d in range(len(shape))])
    return mask


def sides(mask: Tensor) -> list[Tensor]:
    """Indices that are alive along each dimension; the mask must be a product of them."""
    lines = []
    for dim in range(mask.dim()):
        others = [d for d in range(mask.dim()) if d != dim]
        lines.append(mask.sum(others) > 0 if others else mask)
    kept = [line.nonzero().flatten() for line in lines]
    if not torch.equal(outer(mask.shape, dict(enumerate(kept))), mask):
        raise LawBrokenError("the entries that stay are no rectangle")
    return kept


def mask_of(  # noqa: PLR0911 - one line per kind
    op: str, value: Any, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Mask of a node's value; ``args`` are the node's arguments with masks for tensors."""
    name = base_name(op)
    if not isinstance(value, (Tensor, list, tuple)):
        return None
    if name in _MOVES:
        return resolve(op)(*args, **kwargs)
    operands = [arg for arg in args if isinstance(arg, Tensor) and arg.dtype == torch.bool]
    if name in ("pad", "constant_pad_nd"):
        return _padded(args[0], args[1])
    if name in ("pixel_shuffle", "pixel_unshuffle"):
        return resolve(op)(args[0].double(), *args[1:]) > 0
    if name in ("im2col", "col2im"):
        return _windows(args[0], value.shape)
    if name == "glu":
        dim = args[1] if len(args) > 1 else -1
        return torch.logical_and(*args[0].chunk(2, dim))
    if name == "embedding":
        return args[0].amax(0).expand(value.shape)
    if name == "prelu":  # one slope per channel of dimension 1
        shape = [-1 if d == 1 else 1 for d in range(value.dim())]
        operands[1] = operands[1].view(shape)
    if name in ("new_zeros", "new_ones", "new_full"):
        return outer(value.shape, {})
    if "pool" in name or "upsample" in name or name in _MIRRORED:
        first = value[0] if isinstance(value, (list, tuple)) else value
        pixels = {"1": 1, "2": 2, "3": 3}[next(c for c in name if c.isdigit())]
        over = tuple(range(-pixels, 0))
        mask = operands[0].amax(over, keepdim=True).expand(first.shape)
        return [mask] * len(value) if isinstance(value, (list, tuple)) else mask
    if name in _REDUCTIONS:
        return _reduced(operands[0], value.shape, args, kwargs)
    return _joined(op, value, operands)


def _windows(mask: Tensor, shape: Sequence[int]) -> Tensor:
    """Each channel is a run of the places in its windows, or such a run becomes a channel."""
    line = mask.amax((0, *range(2, mask.dim())))
    if shape[1] > len(line):
        line = line.repeat_interleave(shape[1] // len(line))
    else:
        runs = line.view(shape[1], -1)
        if not torch.equal(runs.any(1), runs.all(1)):
            raise LawBrokenError("a channel loses some of its places in a window only")
        line = runs.any(1)
    return line.view(1, -1, *[1] * (len(shape) - 2)).expand(tuple(shape))


def _padded(mask: Tensor, amounts: Sequence[int]) -> Tensor:
    """What is padded is alive along the padded dimension, in the channels that are alive."""
    lines = [outer([size], {0: kept}) for size, kept in zip(mask.shape, sides(mask), strict=True)]
    for pair in range(len(amounts) // 2):
        line, around = lines[-1 - pair].float(), list(amounts[2 * pair : 2 * pair + 2])
        lines[-1 - pair] = torch.nn.functional.pad(line, around, value=1.0).bool()
    shape = [len(line) for line in lines]
    return outer(shape, {dim: line.nonzero().flatten() for dim, line in enumerate(lines)})


def _reduced(mask: Tensor, shape: Sequence[int], args: list[Any], kwargs: dict[str, Any]) -> Tensor:
    dims = next((a for a in args[1:2] if isinstance(a, (int, list)) and a != []), None)
    dims = kwargs.get("dim", dims)
    over = list(range(mask.dim())) if dims is None else dims
    return mask.amax(over).reshape(tuple(shape))


def _joined(op: str, value: Any, operands: list[Tensor]) -> Any:
    fits = isinstance(value, Tensor) and (
        torch.broadcast_shapes(*(mask.shape for mask in operands)) == value.shape
        if operands and all(_broadcasts(mask.shape, value.shape) for mask in operands)
        else False
    )
    if fits:
        joined = operands[0]
        for mask in operands[1:]:
            joined = joined & mask
        return joined.expand(value.shape)
    if all(bool(mask.all()) for mask in operands):
        everything = [torch.ones(v.shape, dtype=torch.bool) for v in _flat(value)]
        return everything[0] if isinstance(value, Tensor) else everything
    raise LawBrokenError(f"the oracle does not know {op}, and removed entries reach it")


def _broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    if len(shape) > len(target):
        return False
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return all(size in (1, wanted) for size, wanted in pairs)


def _flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [v for v in value if isinstance(v, Tensor)]
