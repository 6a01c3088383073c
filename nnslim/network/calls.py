"""What a graph read from a file must keep to beyond its form: no call may do unbounded work."""

from __future__ import annotations

from collections.abc import Mapping

from nnslim.errors import InputError
from nnslim.network.graph import BATCH, Arg, Node, Ref, TensorInfo, Value, refs
from nnslim.network.operators import argument_names, training_argument

__all__ = ["MAX_SIZE", "check_call", "check_refs"]

MAX_SIZE = 2**40
_SPLITS = (
    "aten.unbind.int",
    "aten.chunk.default",
    "aten.split.Tensor",
    "aten.tensor_split.sections",
)


def check_call(node: Node, known: Mapping[str, Value]) -> None:
    """Refuse calls that would do unbounded work, or leave out a flag that ``train()`` flips."""
    if training_argument(node.op) and len(node.args) < len(argument_names(node.op)):
        raise InputError(f"node {node.name!r}: {node.op} needs all of its arguments in order")
    if node.op.startswith("python."):
        values = [known[arg.name] if isinstance(arg, Ref) else arg for arg in node.args]
        if node.op == "python.getitem":
            values = values[1:] if values and isinstance(values[0], tuple) else [None]
        if not all(isinstance(value, int) and abs(value) < MAX_SIZE for value in values):
            raise InputError(f"node {node.name!r}: {node.op} computes on sizes only")
    if node.op in _SPLITS and isinstance(node.operand, Ref):
        info = known[node.operand.name]
        if isinstance(info, TensorInfo) and _splits_batch(node, info):
            raise InputError(f"node {node.name!r}: {node.op} splits the batch")


def _splits_batch(node: Node, info: TensorInfo) -> bool:
    """Whether a list-valued operator runs along a dimension that depends on the batch."""
    dim = node.argument("dim")
    size = info.shape[dim % len(info.shape)] if isinstance(dim, int) and info.shape else 0
    return size % BATCH == 0


def check_refs(args: tuple[Arg, ...], known: Mapping[str, Value], where: str) -> None:
    """Refuse arguments that name a value before it is there."""
    for arg in args:
        for ref in refs(arg):
            if ref.name not in known:
                raise InputError(
                    f"node {where!r} uses {ref.name!r}, which is not defined before it"
                )
