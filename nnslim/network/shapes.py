"""Shape inference: runs a graph on meta tensors, which have shapes but no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nnslim.errors import InputError
from nnslim.network.graph import BATCH, Graph, Node, TensorInfo, Value
from nnslim.network.interpreter import compile_graph

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
    device = torch.device("meta")
    runtime = _MetaTensors({name: tensor.to(device) for name, tensor in tensors.items()})
    env: dict[str, object] = {
        entry.name: torch.empty(entry.info.shape, dtype=entry.info.dtype, device=device)
        for entry in graph.inputs
    }
    program = compile_graph(graph)
    for step in program.steps:
        try:
            value = program.execute(step, runtime, env, device)
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"the tensors do not fit the graph at {_where(step.node)}: {reason}"
            ) from error
        found = _info(value)
        if found != step.node.value:
            raise InputError(
                f"the tensors do not fit the graph at {_where(step.node)}: it gives {_text(found)}"
                f" where the graph says {_text(step.node.value)}"
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
        sizes = [
            "N" if s == BATCH else f"{s // BATCH}N" if s and s % BATCH == 0 else str(s)
            for s in value.shape
        ]
        return f"{str(value.dtype).split('.')[1]} ({', '.join(sizes)})"
    return f"{len(value)} tensors" if isinstance(value, tuple) else str(value)
