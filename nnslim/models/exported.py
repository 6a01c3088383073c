"""Opens a ``torch.export`` archive (``.pt2``) without letting it run code.

``torch.export.load`` trusts its file: it unpickles objects, loads compiled libraries, evaluates
expressions as Python and looks operators up by any dotted name under ``torch``. So everything that
it would trust is checked against closed lists first, and the load reads a copy that holds the
checked entries only.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, fx, nn

from nnslim.errors import InputError
from nnslim.models.state_dict import holds_only_tensors

__all__ = ["read_exported"]

_MEMBERS = re.compile(
    r"(archive_format|archive_version|byteorder|\.data/\w+|models/\w+\.json|extra/.*"
    r"|data/weights/(weight_\d+|\w+_weights_config\.json)"
    r"|data/constants/(tensor_\d+|\w+_constants_config\.json)"
    r"|data/sample_inputs/\w+\.pt)"
)
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order)\.\w+(\.\w+)?|_operator\.[a-z]+|math\.[a-z]+"
)
_SYMBOL = r"[a-z]+\d+"
_EXPRESSION = re.compile(
    rf"(\s|[()+\-*/%,<>]|==|!=|<=|>=|\d+(\.\d+)?|'{_SYMBOL}'|\b{_SYMBOL}\b"
    r"|\b(Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv"
    r"|ModularIndexing|Where|Eq|Equality|Ne|Unequality|Lt|Le|Gt|Ge|StrictLessThan|LessThan"
    r"|StrictGreaterThan|GreaterThan|And|Or|Not|true|false|True|False)\b"
    r"|\b(positive|integer|nonnegative|real|precision)=)*+"
)
_STRUCTURES = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", None)


def read_exported(path: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """Read a ``.pt2`` archive.

    Returns:
        The program as a module with the source model's parameter names, and the shape of its
        example input, ``(N, C, H, W)``.

    Raises:
        InputError: The archive is damaged, was written by a torch that is too old or too new, asks
            for code to be run, or its program takes anything but one tensor.
    """
    members = _members(path)
    for name, data in members.items():
        _check(path, name, data)
    try:
        program = torch.export.load(_rewrite(members))
    except (
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
    ) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"{path}: torch {torch.__version__} cannot load this archive: {first}"
        raise InputError(message, hint="export it again with this version of torch") from error
    args, kwargs = program.example_inputs or ((), {})
    if kwargs or len(args) != 1 or not isinstance(args[0], Tensor):
        n_inputs = len(args) + len(kwargs)
        raise InputError(f"{path}: the program takes {n_inputs} inputs, expected one image tensor")
    # Guards are Python source from the file; a plain GraphModule can also be put in eval mode.
    module = program.module(check_guards=False)
    return fx.GraphModule(module, module.graph), tuple(args[0].shape)


def _members(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) < len(names):
                raise InputError(f"{path}: is damaged: the archive holds the same name twice")
            return {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        message = f"{path}: is damaged or truncated: {error}"
        raise InputError(message, hint="copy or download it again") from error


def _rewrite(members: Mapping[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    buffer.seek(0)
    return buffer


def _check(path: Path, name: str, data: bytes) -> None:
    inner = name.partition("/")[2]
    if _MEMBERS.fullmatch(inner) is None:
        raise _refusal(path, f"it holds {inner or name!r}")
    if inner.endswith(".pt") and not holds_only_tensors(data):
        raise _refusal(path, f"{inner} holds pickled objects")
    if inner.endswith(".json"):
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is damaged: {inner} is not JSON: {error}") from error
        for key, value in _entries(document):
            if not _harmless(key, value):
                raise _refusal(path, f"{inner} has {key} = {str(value)[:80]!r}")


def _refusal(path: Path, what: str) -> InputError:
    message = f"{path}: is refused, because loading it could run code from the file: {what}"
    return InputError(message, hint="use the state dict and [[arch]]")


def _entries(value: object) -> Iterator[tuple[str, object]]:
    """Every key of every object in a JSON document, with its value."""
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[str, object]", value).items():
            yield key, item
            yield from _entries(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _entries(item)


def _harmless(key: str, value: object) -> bool:
    match key, value:
        case "use_pickle", _:
            return value is False
        case (("target" | "as_operator"), str()):
            return _OPERATOR.fullmatch(value) is not None
        case "expr_str", str():
            return _EXPRESSION.fullmatch(value) is not None
        case (("in_spec" | "out_spec"), str()):
            return all(k != "type" or v in _STRUCTURES for k, v in _entries(json.loads(value)))
        case "as_custom_obj", _:
            return False
        case _:
            return True
