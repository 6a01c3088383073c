"""A graph as canonical JSON and back; the reader trusts nothing (docs/reference/file-format.md)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TypeAlias, cast

import torch

from nnslim.errors import InputError, UnsupportedModelError
from nnslim.network.calls import MAX_SIZE, check_call, check_refs
from nnslim.network.graph import (
    BATCH,
    Arg,
    CustomRules,
    DeviceRef,
    Graph,
    Input,
    Node,
    Ref,
    TensorInfo,
    TensorRef,
    Value,
)
from nnslim.network.operators import OPERATORS, argument_names

__all__ = ["FORMAT", "canonical_json", "graph_from_json", "graph_to_json"]

FORMAT = 1
_MAX_NODES = 100_000
_MAX_DEPTH = 8
_MAX_LITERAL = 2**63
_MAX_RANK = 16
_DTYPES = [
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex64",
    "complex128",
]
_LAYOUTS = ("strided",)
_MEMORY_FORMATS = ("contiguous_format", "channels_last", "channels_last_3d", "preserve_format")

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def canonical_json(value: object) -> str:
    """Return the one compact text of a JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def graph_to_json(graph: Graph) -> dict[str, Json]:
    """Return the graph as plain JSON values."""
    return {
        "inputs": [{"name": i.name, **_encode_info(i.info)} for i in graph.inputs],
        "nodes": [_encode_node(node) for node in graph.nodes],
        "output": _encode(graph.output),
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
    entry = _mapping(values, "graph", {"inputs", "nodes", "output"})
    inputs = tuple(_decode_input(item) for item in _sequence(entry["inputs"], "inputs"))
    items = _sequence(entry["nodes"], "nodes")
    if len(items) > _MAX_NODES:
        raise InputError(f"graph has {len(items)} nodes; at most {_MAX_NODES} are read")
    known: dict[str, Value] = {item.name: item.info for item in inputs}
    if len(known) != len(inputs) or not inputs:
        raise InputError("graph needs inputs with different names")
    nodes: list[Node] = []
    for item in items:
        node = _decode_node(item, custom or {})
        check_refs(node.arguments, known, node.name)
        check_call(node, known)
        if node.name in known:
            raise InputError(f"graph names two values {node.name!r}")
        known[node.name] = node.value
        nodes.append(node)
    output = _decode(entry["output"], "output")
    check_refs((output,), known, "output")
    return Graph(inputs, tuple(nodes), output, custom or {})


def _encode_node(node: Node) -> Json:
    result: dict[str, Json] = {
        "name": node.name,
        "op": node.op,
        "args": [_encode(arg) for arg in node.args],
        "value": _encode_value(node.value),
    }
    if node.kwargs:
        result["kwargs"] = {key: _encode(arg) for key, arg in node.kwargs.items()}
    if node.module:
        result["module"] = node.module
    if node.source:
        result["source"] = node.source
    return result


def _encode_size(size: int) -> Json:
    return f"{size // BATCH}N" if size and size % BATCH == 0 else size


def _encode_info(info: TensorInfo) -> dict[str, Json]:
    return {"shape": [_encode_size(s) for s in info.shape], "dtype": str(info.dtype).split(".")[1]}


def _encode_value(value: Value) -> Json:
    match value:
        case TensorInfo():
            return cast("Json", _encode_info(value))
        case tuple():
            return [_encode_info(item) for item in value]
        case bool() | None | float():
            return value
        case int():
            return _encode_size(value)


def _encode(arg: Arg) -> Json:  # noqa: PLR0911 - one line per kind of argument
    match arg:
        case Ref():
            return {"ref": arg.name}
        case TensorRef():
            return {"tensor": arg.name}
        case DeviceRef():
            return {"device": "network"}
        case torch.dtype():
            return {"dtype": str(arg).split(".")[1]}
        case torch.layout():
            return {"layout": str(arg).split(".")[1]}
        case torch.memory_format():
            return {"memory_format": str(arg).split(".")[1]}
        case tuple():
            return [_encode(entry) for entry in arg]
        case Mapping():
            return {"dict": {str(key): _encode(entry) for key, entry in arg.items()}}
        case float() if not math.isfinite(arg):
            return {"float": str(arg)}
        case _:
            return arg


def _mapping(
    value: object, where: str, keys: set[str], optional: set[str] | None = None
) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InputError(f"{where} is not a JSON object")
    entry = cast("dict[str, object]", value)
    if unknown := sorted(set(entry) - keys - (optional or set())):
        raise InputError(
            f"{where} has the unknown key {unknown[0]!r}", hint="a newer nnslim may have written it"
        )
    if missing := sorted(keys - set(entry)):
        raise InputError(f"{where} lacks the key {missing[0]!r}")
    return entry


def _sequence(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise InputError(f"{where} is not a JSON array")
    return cast("list[object]", value)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > 512:
        raise InputError(f"{where} is not a short text")
    return value


def _decode_input(value: object) -> Input:
    entry = _mapping(value, "input", {"name", "shape", "dtype"})
    info = _decode_info({key: entry[key] for key in ("shape", "dtype")}, "input")
    return Input(_text(entry["name"], "input name"), info)


def _decode_node(value: object, custom: CustomRules) -> Node:
    entry = _mapping(value, "node", {"name", "op", "args", "value"}, {"kwargs", "module", "source"})
    name = _text(entry["name"], "node name")
    op = _text(entry["op"], f"operator of {name}")
    if op not in OPERATORS and op not in custom:
        raise UnsupportedModelError(
            f"node {name!r} uses the operator {op!r}, which this nnslim does not know",
            hint="the file is damaged, comes from a newer version, or needs operators={...}",
        )
    allowed = set(argument_names(op))
    kwargs = _mapping(entry.get("kwargs", {}), f"kwargs of {name}", set(), allowed)
    args = tuple(_decode(arg, name) for arg in _sequence(entry["args"], f"args of {name}"))
    if len(args) > len(allowed):
        raise InputError(f"node {name!r} has {len(args)} arguments; {op} takes {len(allowed)}")
    return Node(
        name=name,
        op=op,
        args=args,
        kwargs={key: _decode(arg, name) for key, arg in kwargs.items()},
        value=_decode_value(entry["value"], name),
        module=_text(entry.get("module", ""), f"module of {name}"),
        source=_text(entry.get("source", ""), f"source of {name}"),
    )


def _decode_size(value: object, where: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}N", value):
        return int(value[:-1]) * BATCH
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_SIZE:
        return value
    raise InputError(f"{where}: {value!r} is not a size")


def _decode_info(value: object, where: str) -> TensorInfo:
    entry = _mapping(value, where, {"shape", "dtype"})
    shape = tuple(_decode_size(size, where) for size in _sequence(entry["shape"], where))
    if len(shape) > _MAX_RANK or any(size < 0 for size in shape):
        raise InputError(f"{where}: {list(shape)} is not a shape")
    return TensorInfo(shape, _named(entry["dtype"], _DTYPES, where))  # pyright: ignore[reportArgumentType]


def _decode_value(value: object, where: str) -> Value:
    match value:
        case None | bool() | float():
            return value
        case list():
            return tuple(_decode_info(item, where) for item in cast("list[object]", value))
        case dict():
            return _decode_info(cast("object", value), where)
        case _:
            return _decode_size(value, where)


def _named(value: object, allowed: tuple[str, ...] | list[str], where: str) -> Arg:
    if value not in allowed:
        raise InputError(f"{where}: {value!r} is not one of {', '.join(allowed)}")
    return cast("Arg", getattr(torch, str(value)))


def _decode(value: object, where: str, depth: int = 0) -> Arg:
    if depth > _MAX_DEPTH:
        raise InputError(f"{where}: arguments are nested too deeply")
    match value:
        case int() if abs(value) > _MAX_LITERAL:
            raise InputError(f"{where}: {value:.3g} is too large a number")
        case None | bool() | int() | float():
            return value
        case str():
            return _text(value, where)
        case list():
            return tuple(_decode(entry, where, depth + 1) for entry in cast("list[object]", value))
        case dict() if len(cast("dict[str, object]", value)) == 1:
            ((kind, content),) = cast("dict[str, object]", value).items()
            return _decode_tagged(kind, content, where, depth)
        case _:
            raise InputError(f"{where}: an argument of unknown form")


def _decode_tagged(kind: str, content: object, where: str, depth: int) -> Arg:  # noqa: PLR0911
    match kind:
        case "ref":
            return Ref(_text(content, where))
        case "tensor":
            return TensorRef(_text(content, where))
        case "device":
            return DeviceRef()
        case "dtype":
            return _named(content, _DTYPES, where)
        case "layout":
            return _named(content, _LAYOUTS, where)
        case "memory_format":
            return _named(content, _MEMORY_FORMATS, where)
        case "float" if content in ("inf", "-inf", "nan"):
            return float(str(content))
        case "dict" if isinstance(content, dict):
            items = cast("dict[str, object]", content).items()
            return {_text(key, where): _decode(entry, where, depth + 1) for key, entry in items}
        case _:
            raise InputError(f"{where}: an argument of the unknown kind {kind!r}")
