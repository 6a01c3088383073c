"""Operators that law 1 treats in a way of their own: products, attention, statistics.

A product zeroes what is removed of every operand; statistics run on what is left. Both take the
operands and their boolean twins, and return the value in its full shape and its twin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.laws.alive import LawBrokenError, base_name, outer, resolve, sides

__all__ = ["PRODUCTS", "STATISTICS", "attention", "product", "statistics"]

PRODUCTS = ("matmul", "mm", "bmm", "einsum", "addmm", "baddbmm", "linalg_vector_norm", "norm")
_REDUCE = ("mean", "var", "std", "var_mean", "amax", "amin", "logsumexp")
STATISTICS = (
    *_REDUCE,
    "softmax",
    "log_softmax",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "batch_norm",
)

Zeroed = Callable[[Tensor, Tensor], Tensor]


def product(op: str, args: list[Any], masks: list[Any], zeroed: Zeroed) -> tuple[Tensor, Tensor]:
    """A sum over products: an entry is alive where some term of it is."""
    if base_name(op) == "einsum":
        operands = [zeroed(a, m) for a, m in zip(args[1], masks[1], strict=True)]
        twins = [m.double() for m in masks[1]]
        return resolve(op)(args[0], operands), resolve(op)(args[0], twins) > 0
    value = resolve(op)(
        *(zeroed(a, m) if isinstance(a, Tensor) else a for a, m in zip(args, masks, strict=True))
    )
    twins = [m.double() if isinstance(m, Tensor) else m for m in masks]
    if base_name(op) in ("addmm", "baddbmm"):
        added = torch.matmul(twins[1], twins[2]) > 0
        return value, added & (twins[0] > 0)
    return value, resolve(op)(*twins) > 0


def attention(
    op: str, args: list[Any], kwargs: dict[str, Any], masks: list[Any], zeroed: Zeroed
) -> tuple[Tensor, Tensor]:
    """Queries, keys and values without what is removed; the scale is that of the whole head."""
    q, k, v = (zeroed(a, m) for a, m in zip(args[:3], masks[:3], strict=True))
    value = resolve(op)(q, k, v, *args[3:], **kwargs)
    mq, mk, mv = masks[:3]
    if kwargs.get("enable_gqa"):
        mk, mv = (m.repeat_interleave(mq.shape[-3] // m.shape[-3], -3) for m in (mk, mv))
    if not torch.equal(mq.amax(-2), mk.amax(-2).expand_as(mq.amax(-2))):
        raise LawBrokenError("queries and keys keep other entries")
    alive = mq.amax(-1, keepdim=True) & mv.amax(-2, keepdim=True)
    if len(masks) > 3 and isinstance(masks[3], Tensor) and masks[3].dtype == torch.bool:
        bias = masks[3] if args[3].is_floating_point() else torch.ones_like(masks[3])
        alive = alive & bias.amax(-1, keepdim=True)
    return value, alive.expand(value.shape)


def statistics(
    op: str, args: list[Any], kwargs: dict[str, Any], masks: list[Any]
) -> tuple[Any, Any] | None:
    """Run on what is left, or return None where no statistic runs over anything removed."""
    name, mask = base_name(op), masks[0]
    lines = sides(mask)
    dims = _dims(name, args, kwargs)
    if not any(len(lines[dim]) < mask.shape[dim] for dim in dims):
        return None
    if name == "group_norm" and _whole(lines[1], mask.shape[1], args[1]):
        return None
    left = _gather(args[0], lines)
    rest = [
        _gather(a, sides(m)) if isinstance(a, Tensor) else a
        for a, m in zip(args[1:], masks[1:], strict=True)
    ]
    if name.endswith("_norm") and name[0] in "lr":  # layer_norm, rms_norm: their sizes
        rest[0] = list(left.shape[-len(args[1]) :])
    found = resolve(op)(left, *rest, **kwargs)
    alive, shape = list(lines), list(mask.shape)
    if name in _REDUCE:
        one = torch.zeros(1, dtype=torch.long)
        alive = [one if d in dims else line for d, line in enumerate(lines)]
        shape = [1 if d in dims else s for d, s in enumerate(shape)]
        if not _keeps(found, mask.dim()):
            alive = [line for d, line in enumerate(alive) if d not in dims]
            shape = [s for d, s in enumerate(shape) if d not in dims]
    results = list(found) if isinstance(found, (tuple, list)) else [found]
    values = [_spread(item, alive, shape) for item in results]
    twin = outer(shape, dict(enumerate(alive)))
    if isinstance(found, (tuple, list)):
        return values, [twin] * len(values)
    return values[0], twin


def _keeps(found: Any, rank: int) -> bool:
    first = found[0] if isinstance(found, (tuple, list)) else found
    return first.dim() == rank


def _dims(name: str, args: list[Any], kwargs: dict[str, Any]) -> list[int]:
    rank = args[0].dim()
    if name == "group_norm":
        return [1]
    if name == "batch_norm":
        return [d for d in range(rank) if d != 1] if args[5] is True else []
    if name in ("layer_norm", "rms_norm"):
        return list(range(rank - len(args[1]), rank))
    over = kwargs.get("dim", args[1] if len(args) > 1 else None)
    over = list(range(rank)) if over is None or over == [] else over
    return [int(d) % rank for d in (over if isinstance(over, list) else [over])]


def _whole(kept: Tensor, size: int, groups: int) -> bool:
    line = torch.zeros(size, dtype=torch.bool)
    line[kept] = True
    by_group = line.view(groups, -1)
    return bool((by_group.all(1) | ~by_group.any(1)).all())


def _gather(value: Tensor, kept: list[Tensor]) -> Tensor:
    for dim, index in enumerate(kept):
        if len(index) < value.shape[dim]:
            value = value.index_select(dim, index)
    return value


def _spread(value: Tensor, kept: list[Tensor], shape: list[int]) -> Tensor:
    for dim, index in enumerate(kept):
        if len(index) < shape[dim]:
            sizes = [shape[dim] if d == dim else s for d, s in enumerate(value.shape)]
            value = value.new_zeros(sizes).index_copy(dim, index, value)
    return value
