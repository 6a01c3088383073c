"""A graph as canonical JSON and back; the reader trusts nothing (docs/reference/file-format.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nnslim.errors import InputError, UnsupportedModelError
from nnslim.network.arguments import Arg, Ref, refs
from nnslim.network.graph import BATCH, CustomRules, Graph, Input, Node, TensorInfo, Value
from nnslim.network.json_values import (
    MAX_SIZE,
    Json,
    decode_arg,
    decode_info,
    decode_value,
    encode_arg,
    encode_info,
    encode_value,
    read_mapping,
    read_sequence,
    read_text,
)
from nnslim.network.operators import OPERATORS, argument_names, aten_names, training_argument

__all__ = ["FORMAT", "canonical_json", "graph_from_json", "graph_to_json"]

FORMAT = 1
_MAX_NODES = 100_000
_SPLITS = aten_names("unbind.int chunk split.Tensor tensor_split.sections")


def canonical_json(value: object) -> str:
    """Return the one compact text of a JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def graph_to_json(graph: Graph) -> dict[str, Json]:
    """Return the graph as plain JSON values."""
    return {
        "inputs": [{"name": i.name, **encode_info(i.info)} for i in graph.inputs],
        "nodes": [_encode_node(node) for node in graph.nodes],
        "output": encode_arg(graph.output),
    }


def graph_from_json(values: object, custom: CustomRules | None = None) -> Graph:
    """Read a graph, refusing whatever is not exactly a graph of known operators.

    Args:
        values: The graph as JSON values.
        custom: Further operators that the caller allows; a file alone can allow none.

    Raises:
        InputError: A key, type, size or reference that does not belong, named with its node.
        UnsupportedModelError: An operator that is not on the closed list.
    """
    entry = read_mapping(values, "graph", {"inputs", "nodes", "output"})
    inputs = tuple(_decode_input(item) for item in read_sequence(entry["inputs"], "inputs"))
    items = read_sequence(entry["nodes"], "nodes")
    if len(items) > _MAX_NODES:
        raise InputError(f"graph has {len(items)} nodes; at most {_MAX_NODES} are read")
    known: dict[str, Value] = {item.name: item.info for item in inputs}
    if len(known) != len(inputs) or not inputs:
        raise InputError("graph needs inputs with different names")
    nodes: list[Node] = []
    for item in items:
        node = _decode_node(item, custom or {})
        _check_refs(node.arguments, known, node.name)
        _check_call(node, known)
        if node.name in known:
            raise InputError(f"graph names two values {node.name!r}")
        known[node.name] = node.value
        nodes.append(node)
    output = decode_arg(entry["output"], "output")
    _check_refs(output, known, "output")
    return Graph(inputs, tuple(nodes), output, custom or {})


def _encode_node(node: Node) -> Json:
    kwargs: Json = {key: encode_arg(arg) for key, arg in node.kwargs.items()}
    optional = {"kwargs": kwargs, "module": node.module, "source": node.source}
    return {
        "name": node.name,
        "op": node.op,
        "args": [encode_arg(arg) for arg in node.args],
        "value": encode_value(node.value),
        **{key: value for key, value in optional.items() if value},
    }


def _decode_input(value: object) -> Input:
    entry = read_mapping(value, "input", {"name", "shape", "dtype"})
    info = decode_info({key: entry[key] for key in ("shape", "dtype")}, "input")
    return Input(read_text(entry["name"], "input name"), info)


def _decode_node(value: object, custom: CustomRules) -> Node:
    entry = read_mapping(
        value, "node", {"name", "op", "args", "value"}, {"kwargs", "module", "source"}
    )
    name = read_text(entry["name"], "node name")
    op = read_text(entry["op"], f"operator of {name}")
    if op not in OPERATORS and op not in custom:
        raise UnsupportedModelError(
            f"node {name!r} uses the operator {op!r}, which this nnslim does not know",
            hint="the file is damaged, comes from a newer version, or needs operators={...}",
        )
    allowed = set(argument_names(op))
    kwargs = read_mapping(entry.get("kwargs", {}), f"kwargs of {name}", set(), allowed)
    args = tuple(decode_arg(arg, name) for arg in read_sequence(entry["args"], f"args of {name}"))
    if len(args) > len(allowed):
        raise InputError(f"node {name!r} has {len(args)} arguments; {op} takes {len(allowed)}")
    return Node(
        name=name,
        op=op,
        args=args,
        kwargs={key: decode_arg(arg, name) for key, arg in kwargs.items()},
        value=decode_value(entry["value"], name),
        module=read_text(entry.get("module", ""), f"module of {name}"),
        source=read_text(entry.get("source", ""), f"source of {name}"),
    )


def _check_call(node: Node, known: Mapping[str, Value]) -> None:
    """Refuse calls that would do unbounded work, or leave out a flag that ``train()`` flips."""
    if training_argument(node.op) and len(node.args) < len(argument_names(node.op)):
        raise InputError(f"node {node.name!r}: {node.op} needs all of its arguments in order")
    if node.op.startswith("python."):
        values = [known[arg.name] if isinstance(arg, Ref) else arg for arg in node.args]
        if node.op == "python.getitem":
            values = values[1:] if values and isinstance(values[0], tuple) else [None]
        if not all(isinstance(value, int) and abs(value) < MAX_SIZE for value in values):
            raise InputError(f"node {node.name!r}: {node.op} computes on sizes only")
    info = known[node.operand.name] if isinstance(node.operand, Ref) else None
    if node.op in _SPLITS and isinstance(info, TensorInfo):
        dim = node.argument("dim")
        size = info.shape[dim % len(info.shape)] if isinstance(dim, int) and info.shape else 0
        if size % BATCH == 0:
            raise InputError(f"node {node.name!r}: {node.op} splits the batch")


def _check_refs(arg: Arg, known: Mapping[str, Value], where: str) -> None:
    """Refuse arguments that name a value before it is there."""
    for ref in refs(arg):
        if ref.name not in known:
            raise InputError(f"node {where!r} uses {ref.name!r}, which is not defined before it")
