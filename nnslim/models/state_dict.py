"""Reads weights from files; the only place in the package that calls ``torch.load``.

Nothing in a file can run code here: ``torch.load`` reads tensors only, and never falls back to
unpickling objects by itself. ``trust_pickle`` is the one exception, and it leaves a note.
"""

from __future__ import annotations

import argparse
import io
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import cast

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nnslim.errors import InputError
from nnslim.factory import working_directory_importable
from nnslim.models.formats import file_kind

__all__ = ["Weights", "holds_only_tensors", "read_checkpoint"]

_NESTS = ("state_dict", "model", "model_state_dict", "ema", "net")
_PREFIXES = ("module.", "_orig_mod.")
_DAMAGED = (
    UnpicklingError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OSError,
    MemoryError,
    AssertionError,
)
_SAFE_HINT = "save model.state_dict() and name the network with [[arch]]"
_TRUST_HINT = f"{_SAFE_HINT}, or give [[trust_pickle]] if you trust whoever made the file"


@dataclass(frozen=True)
class Weights:
    """What a weights file holds.

    Attributes:
        tensors: The state dict, with plain names, on the CPU.
        module: The pickled module itself, when the file holds one and was trusted.
        notes: What was decided while reading.
    """

    tensors: dict[str, Tensor]
    module: nn.Module | None = None
    notes: tuple[str, ...] = ()


def read_checkpoint(path: Path, *, trust_pickle: bool = False) -> Weights:
    """Read a state dict, bare or nested in a training checkpoint, from a torch or safetensors file.

    It may lie under ``state_dict``, ``model``, ``model_state_dict``, ``ema`` or ``net``; prefixes
    that wrappers leave (``module.``, ``_orig_mod.``) are removed.

    Args:
        path: A ``.pt``, ``.pth``, ``.th`` or ``.safetensors`` file.
        trust_pickle: Unpickle whatever the file holds, which **runs code from the file**.

    Raises:
        InputError: The file is damaged, holds objects other than tensors, or holds no tensors.
    """
    match file_kind(path):
        case "safetensors":
            return _checkpoint(path, _read_safetensors(path), ())
        case "torch" if trust_pickle:
            note = f"{path} was unpickled without restriction (trust_pickle): its code ran"
            return _checkpoint(path, _read_trusted(path), (note,))
        case "torch":
            return _checkpoint(path, _read_tensors(path), ())
        case "torchscript":
            message = f"{path}: is a TorchScript archive, which carries code besides the weights"
            raise InputError(message, hint=_SAFE_HINT)
        case other:
            raise InputError(f"{path}: is a file of the kind {other}, not a state dict")


def holds_only_tensors(data: bytes) -> bool:
    """Whether bytes written by ``torch.save`` can be read without running code from them.

    Example:
        >>> holds_only_tensors(b"garbage")
        False
    """
    try:
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _DAMAGED:
        return False
    return True


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        message = f"{path}: is damaged or truncated: {_first_line(error)}"
        raise InputError(message, hint="copy or download it again") from error


def _read_tensors(path: Path) -> object:
    # argparse.Namespace holds the options of timm's and torchvision's training scripts; building
    # one only sets attributes.
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the pickle protocol of a bad file
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            message = f"{path}: is damaged or truncated: {_reason(error)}"
            raise InputError(message, hint="copy or download it again") from error
        message = (
            f"{path}: holds a pickled object ({named[1]}), not only tensors, "
            "and unpickling objects runs code from the file"
        )
        raise InputError(message, hint=_TRUST_HINT) from error


def _read_trusted(path: Path) -> object:
    try:
        with working_directory_importable():
            return torch.load(path, map_location="cpu", weights_only=False)
    # The file's code runs here and may raise anything.
    except Exception as error:
        kind = type(error).__name__
        message = f"{path}: cannot be unpickled: {kind}: {_first_line(error)}"
        hint = "the classes that it names must be importable from here"
        raise InputError(message, hint=hint) from error


def _checkpoint(path: Path, value: object, notes: tuple[str, ...]) -> Weights:
    value, more = _unwrap(value)
    notes += more
    if isinstance(value, nn.DataParallel):
        value = value.module
    if isinstance(value, nn.Module):
        return Weights(_plain_names(dict(value.state_dict())), value.eval(), notes)
    if not isinstance(value, Mapping):
        message = f"{path}: holds a {type(value).__name__}, not a state dict"
        raise InputError(message, hint=_SAFE_HINT)
    entries = cast("Mapping[object, object]", value)
    if not entries:
        raise InputError(f"{path}: holds an empty state dict", hint=_SAFE_HINT)
    for key, entry in entries.items():
        if not isinstance(key, str) or not isinstance(entry, Tensor):
            message = f"{path}: is not a state dict: {key!r} is a {type(entry).__name__}"
            hint = f"tensors may lie at the top or under {', '.join(_NESTS)}"
            raise InputError(message, hint=hint)
    return Weights(_plain_names(cast("Mapping[str, Tensor]", entries)), None, notes)


def _unwrap(value: object) -> tuple[object, tuple[str, ...]]:
    """Step into training checkpoints until something that holds tensors itself."""
    notes: tuple[str, ...] = ()
    while isinstance(value, Mapping):
        inside = cast("Mapping[object, object]", value)
        nests = [key for key in _NESTS if isinstance(inside.get(key), (Mapping, nn.Module))]
        if not nests or any(isinstance(entry, Tensor) for entry in inside.values()):
            break
        if len(nests) > 1:
            others = ", ".join(repr(key) for key in nests[1:])
            notes += (f"the weights are those under {nests[0]!r}; the file also has {others}",)
        value = inside[nests[0]]
    return value, notes


def _plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove what data parallelism, torch.compile and weight averaging put before the names."""
    names = {name: name for name in tensors if name != "n_averaged"}
    while prefix := _common_prefix(names.values()):
        names = {name: plain.removeprefix(prefix) for name, plain in names.items()}
    # torch.compile also wraps single children, and then it sits inside the names.
    return {plain.replace("._orig_mod.", "."): tensors[name] for name, plain in names.items()}


def _common_prefix(names: Collection[str]) -> str | None:
    for prefix in _PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return prefix
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _reason(error: BaseException) -> str:
    """The cause inside torch's long advice about weights_only."""
    cause = re.search(r"WeightsUnpickler error: ?(.*)", str(error))
    return (cause[1] if cause else "") or _first_line(error)
