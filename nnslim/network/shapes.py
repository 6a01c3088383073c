"""Shape inference: runs a graph on meta tensors, which have shapes but no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nnslim.errors import InputError
from nnslim.network.graph import Graph, Node, Ref, TensorInfo, TensorRef, Value
from nnslim.network.interpreter import Program, Step, compile_graph
from nnslim.network.operators import BATCH_NORM_TENSORS, LAYERS, argument_names

__all__ = ["check_shapes"]


@dataclass(frozen=True)
class _MetaTensors:
    tensors: Mapping[str, Tensor]
    training: bool = False

    def tensor(self, name: str) -> Tensor:
        return self.tensors[name]


def check_shapes(graph: Graph, tensors: Mapping[str, Tensor]) -> None:
    """Check, without computing anything, that tensors and graph agree on every shape.

    Args:
        graph: The graph, whose nodes say what they return.
        tensors: Parameters and buffers by name, on any device.

    Raises:
        InputError: The first node that cannot take its inputs or returns another shape.
    """
    _check_indices(graph, tensors)
    device = torch.device("meta")
    runtime = _MetaTensors({name: tensor.to(device) for name, tensor in tensors.items()})
    precision = _precision(tensors)
    env: dict[str, object] = {
        entry.name: torch.empty(
            entry.info.shape, dtype=precision.get(entry.info.dtype, entry.info.dtype), device=device
        )
        for entry in graph.inputs
    }
    program = compile_graph(graph)
    for step in program.steps:
        value = _run(program, step, runtime, env)
        if not _agree(value, step.node.value, precision):
            raise InputError(
                f"the tensors do not fit the graph at {_where(step.node)}: it gives"
                f" {_text(value)} where the graph says {_text(step.node.value)}"
            )


def _run(program: Program, step: Step, runtime: _MetaTensors, env: dict[str, object]) -> Value:
    def call(step: Step, args: list[object], kwargs: dict[str, object]) -> object:
        # Meta kernels do not mind what real ones refuse: a weight of another precision.
        given = step.by_name(args, kwargs)
        tensors = (value for value in given.values() if isinstance(value, Tensor))
        floats = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
        if len(floats) > 1 and step.node.family in LAYERS:
            raise TypeError("input and weight have " + " and ".join(sorted(map(str, floats))))
        if "device" in argument_names(step.node.op) and given.get("device") is None:
            kwargs["device"] = torch.device("meta")  # what an operator creates has no data either
        if step.node.family == "batch_norm" and (result := _normalised(given)) is not None:
            return result
        return step.function(*args, **kwargs)

    try:
        return _info(program.execute(step, runtime, env, torch.device("meta"), call))
    except (RuntimeError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"the tensors do not fit the graph at {_where(step.node)}: {reason}"
        raise InputError(message) from error


def _normalised(given: Mapping[str, object]) -> Tensor | None:
    """What a batch norm of fitting tensors returns; its meta kernel takes 3 ms to say so."""
    source, *per_channel = (given[name] for name in ("input", *BATCH_NORM_TENSORS))
    if isinstance(source, Tensor) and source.dim() > 1:
        tensors = (tensor for tensor in per_channel if tensor is not None)
        fits = (isinstance(t, Tensor) and t.shape == source.shape[1:2] for t in tensors)
        return torch.empty_like(source) if all(fits) else None
    return None


def _precision(tensors: Mapping[str, Tensor]) -> dict[torch.dtype, torch.dtype]:
    """What ``double()`` or ``half()`` made of the traced float32; empty for mixed precision."""
    dtypes = {t.dtype for t in tensors.values() if t.is_floating_point()}
    return {torch.float32: dtypes.pop()} if len(dtypes) == 1 else {}


def _agree(value: Value, expected: Value, precision: Mapping[torch.dtype, torch.dtype]) -> bool:
    if isinstance(expected, tuple) and isinstance(value, tuple):
        pairs = zip(value, expected, strict=False)
        return len(value) == len(expected) and all(_agree(a, b, precision) for a, b in pairs)
    if isinstance(expected, TensorInfo) and isinstance(value, TensorInfo):
        allowed = (expected.dtype, precision.get(expected.dtype))
        return value.shape == expected.shape and value.dtype in allowed
    return value == expected


def _check_indices(graph: Graph, tensors: Mapping[str, Tensor]) -> None:
    """A constant index must lie inside what it selects from, which meta tensors cannot tell."""
    for node in graph.nodes:
        if node.family != "index_select":
            continue
        source, dim, index = (node.argument(name) for name in ("self", "dim", "index"))
        if not isinstance(index, TensorRef) or not isinstance(source, Ref):
            continue
        info, values = graph.info(source.name), tensors[index.name]
        if not isinstance(info, TensorInfo) or not isinstance(dim, int) or not values.numel():
            continue
        size = info.shape[dim] if -len(info.shape) <= dim < len(info.shape) else 0
        if values.is_floating_point() or int(values.min()) < 0 or int(values.max()) >= size:
            raise InputError(
                f"the index {index.name!r} of {_where(node)} is not within 0 to {size - 1}"
            )


def _where(node: Node) -> str:
    return f"{node.name!r}, {node.place}"


def _info(value: object) -> Value:
    match value:
        case Tensor():
            return TensorInfo(tuple(value.shape), value.dtype)
        case list() | tuple():
            return tuple(_info(item) for item in value)  # pyright: ignore
        case _:
            return value  # pyright: ignore[reportReturnType]


def _text(value: Value) -> str:
    if isinstance(value, TensorInfo):
        return f"{str(value.dtype).split('.')[1]} {value.sizes}"
    return f"{len(value)} tensors" if isinstance(value, tuple) else str(value)
