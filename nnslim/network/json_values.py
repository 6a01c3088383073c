"""Arguments and values of a graph as JSON and back; the reader trusts nothing it is given."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TypeAlias, cast

import torch

from nnslim.errors import InputError
from nnslim.network.graph import BATCH, Arg, DeviceRef, Ref, TensorInfo, TensorRef, Value

__all__ = [
    "MAX_SIZE",
    "Json",
    "decode_arg",
    "decode_info",
    "decode_value",
    "encode_arg",
    "encode_info",
    "encode_value",
    "read_mapping",
    "read_sequence",
    "read_text",
]

MAX_SIZE = 2**40
_MAX_DEPTH = 8
_MAX_LITERAL = 2**63
_MAX_RANK = 16
_FLOATS = ["float32", "float64", "float16", "bfloat16"]
_INTEGERS = ["int64", "int32", "int16", "int8", "uint8"]
_NAMES = {
    "dtype": [*_FLOATS, *_INTEGERS, "bool", "complex64", "complex128"],
    "layout": ["strided"],
    "memory_format": ["contiguous_format", "channels_last", "channels_last_3d", "preserve_format"],
}

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def _encode_size(size: int) -> Json:
    return f"{size // BATCH}N" if size and size % BATCH == 0 else size


def encode_info(info: TensorInfo) -> dict[str, Json]:
    """Write a shape and an element type."""
    return {"shape": [_encode_size(s) for s in info.shape], "dtype": str(info.dtype).split(".")[1]}


def encode_value(value: Value) -> Json:
    """Write what a node returns."""
    match value:
        case TensorInfo():
            return cast("Json", encode_info(value))
        case tuple():
            return [encode_info(item) for item in value]
        case bool() | None | float():
            return value
        case int():
            return _encode_size(value)


def encode_arg(arg: Arg) -> Json:  # noqa: PLR0911 - one line per kind of argument
    """Write an argument of a node."""
    match arg:
        case Ref():
            return {"ref": arg.name}
        case TensorRef():
            return {"tensor": arg.name}
        case DeviceRef():
            return {"device": "network"}
        case torch.dtype() | torch.layout() | torch.memory_format():
            return {type(arg).__name__: str(arg).split(".")[1]}
        case tuple():
            return [encode_arg(entry) for entry in arg]
        case Mapping():
            return {"dict": {str(key): encode_arg(entry) for key, entry in arg.items()}}
        case float() if not math.isfinite(arg):
            return {"float": str(arg)}
        case _:
            return arg


def read_mapping(
    value: object, where: str, keys: set[str], optional: set[str] | None = None
) -> dict[str, object]:
    """Check that a value is an object of known keys, of which only ``optional`` may be missing."""
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


def read_sequence(value: object, where: str) -> list[object]:
    """Check that a value is an array."""
    if not isinstance(value, list):
        raise InputError(f"{where} is not a JSON array")
    return cast("list[object]", value)


def read_text(value: object, where: str) -> str:
    """Check that a value is a short text."""
    if not isinstance(value, str) or len(value) > 512:
        raise InputError(f"{where} is not a short text")
    return value


def _decode_size(value: object, where: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}N", value):
        return int(value[:-1]) * BATCH
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_SIZE:
        return value
    raise InputError(f"{where}: {value!r} is not a size")


def decode_info(value: object, where: str) -> TensorInfo:
    """Read a shape and an element type."""
    entry = read_mapping(value, where, {"shape", "dtype"})
    shape = tuple(_decode_size(size, where) for size in read_sequence(entry["shape"], where))
    if len(shape) > _MAX_RANK or any(size < 0 for size in shape):
        raise InputError(f"{where}: {list(shape)} is not a shape")
    return TensorInfo(shape, _named(entry["dtype"], "dtype", where))  # pyright: ignore[reportArgumentType]


def decode_value(value: object, where: str) -> Value:
    """Read what a node returns."""
    match value:
        case None | bool() | float():
            return value
        case list():
            return tuple(decode_info(item, where) for item in cast("list[object]", value))
        case dict():
            return decode_info(cast("object", value), where)
        case _:
            return _decode_size(value, where)


def _named(value: object, kind: str, where: str) -> Arg:
    if value not in _NAMES[kind]:
        raise InputError(f"{where}: {value!r} is not one of {', '.join(_NAMES[kind])}")
    return cast("Arg", getattr(torch, str(value)))


def decode_arg(value: object, where: str, depth: int = 0) -> Arg:
    """Read an argument of a node."""
    if depth > _MAX_DEPTH:
        raise InputError(f"{where}: arguments are nested too deeply")
    match value:
        case int() if abs(value) > _MAX_LITERAL:
            raise InputError(f"{where}: {value:.3g} is too large a number")
        case None | bool() | int() | float():
            return value
        case str():
            return read_text(value, where)
        case list():
            return tuple(
                decode_arg(entry, where, depth + 1) for entry in cast("list[object]", value)
            )
        case dict() if len(cast("dict[str, object]", value)) == 1:
            ((kind, content),) = cast("dict[str, object]", value).items()
            return _decode_tagged(kind, content, where, depth)
        case _:
            raise InputError(f"{where}: an argument of unknown form")


def _decode_tagged(kind: str, content: object, where: str, depth: int) -> Arg:
    match kind:
        case "ref":
            return Ref(read_text(content, where))
        case "tensor":
            return TensorRef(read_text(content, where))
        case "device":
            return DeviceRef()
        case "dtype" | "layout" | "memory_format":
            return _named(content, kind, where)
        case "float" if content in ("inf", "-inf", "nan"):
            return float(str(content))
        case "dict" if isinstance(content, dict):
            items = cast("dict[str, object]", content).items()
            return {
                read_text(key, where): decode_arg(entry, where, depth + 1) for key, entry in items
            }
        case _:
            raise InputError(f"{where}: an argument of the unknown kind {kind!r}")
