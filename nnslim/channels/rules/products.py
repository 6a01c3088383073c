"""Products of activations: matrix products, einsum and attention."""

from __future__ import annotations

from typing import cast

from nnslim.channels.contractions import einsum_letters, factors
from nnslim.channels.labels import DimLabels, Labels
from nnslim.channels.rules.elementwise import join, sized
from nnslim.channels.walk import Arguments, RuleResult, Walk
from nnslim.network.graph import Node

__all__ = ["added_product", "attention", "einsum", "matmul"]


def matmul(walk: Walk, node: Node, args: Arguments) -> Labels:
    """``matmul``, ``mm``, ``bmm``: the last dimension of one operand meets rows of the other."""
    (a, a_shape), (b, b_shape) = (sized(walk, args[name]) for name in factors(node))
    rows = min(2, len(b))  # of a vector, its one dimension
    walk.tie(a[-1], b[-rows])
    ends = (*a[-2:-1], *(b[-1:] if len(b) > 1 else ()))
    batch = node.shape[: len(node.shape) - len(ends)]
    return (*join(walk, [(a[:-2], a_shape[:-2]), (b[:-2], b_shape[:-2])], batch), *ends)


def added_product(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``addmm``, ``baddbmm``: a product and a bias, tied by broadcasting."""
    product = matmul(walk, node, args), node.shape
    return join(walk, [product, sized(walk, args["self"])], node.shape)


def einsum(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``einsum``: dimensions of the same letter are tied; those not in the result are summed."""
    letters = einsum_letters(cast("str", args["equation"]))
    operands = args["tensors"]
    if letters is None or not isinstance(operands, tuple):
        return walk.refuse(node, f"repeated or dotted letters at {node.place}")
    by_letter: dict[str, list[DimLabels]] = {}
    for names, operand in zip(letters[0], operands, strict=True):
        for letter, along, size in zip(names, *sized(walk, operand), strict=True):
            if size != 1:  # what has size 1 broadcasts
                by_letter.setdefault(letter, []).append(along)
    tied = {letter: walk.tie_all(same) for letter, same in by_letter.items()}
    return tuple(tied.get(letter) for letter in letters[1])


def attention(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``scaled_dot_product_attention``: queries and keys share positions, values have others."""
    (q, q_shape), (k, k_shape), (v, v_shape) = (
        sized(walk, args[name]) for name in ("query", "key", "value")
    )
    walk.tie(q[-1], k[-1])
    walk.freeze((k[-2], v[-2]), f"softmax runs over it at {node.place}")
    batch = node.shape[:-2]
    if args.get("enable_gqa") and k_shape[-3] != q_shape[-3]:
        k, v = (_served(walk, labels, q_shape[-3]) for labels in (k, v))
        k_shape, v_shape = ((*s[:-3], q_shape[-3], *s[-2:]) for s in (k_shape, v_shape))
    leading = [(q[:-2], q_shape[:-2]), (k[:-2], k_shape[:-2]), (v[:-2], v_shape[:-2])]
    rows = (*join(walk, leading, batch), q[-2])
    if walk.is_tensor(args["attn_mask"]):
        mask, mask_shape = sized(walk, args["attn_mask"])
        walk.freeze(mask[-1], f"softmax runs over it at {node.place}")
        shape = (*batch, q_shape[-2])
        rows = join(walk, [(rows, shape), (mask[:-1], mask_shape[:-1])], shape)
    return (*rows, v[-1])


def _served(walk: Walk, labels: Labels, n_queries: int) -> Labels:
    """Heads of shared keys or values: each serves a run of query heads."""
    heads = labels[-3]
    if heads is None:
        return labels
    return (*labels[:-3], heads.repeat(n_queries // heads.size), *labels[-2:])
