"""Tells what kind of model a file holds by looking at its bytes, before anything is decoded."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from nnslim.artifact.network_file import is_network_file
from nnslim.errors import InputError

__all__ = ["FileKind", "file_kind", "model_file"]

FileKind = Literal["nnslim", "safetensors", "torch", "torchscript", "exported", "onnx"]

# What a run writes into its result folder.
_IN_FOLDER = "model.safetensors"
_PICKLE = b"\x80"  # first byte of every pickle since protocol 2, and so of torch files before 1.6


def file_kind(path: Path) -> FileKind:
    """Return what ``path`` holds.

    Returns:
        ``"nnslim"`` for a safetensors file with our graph in its header, ``"safetensors"`` for
        another one, ``"torch"`` for ``torch.save``, ``"torchscript"``, ``"exported"`` for a
        ``torch.export`` archive, ``"onnx"``.

    Raises:
        InputError: No such file, a directory, an empty or truncated file, or no known format.
    """
    head, size = _head(path)
    if path.suffix.lower() == ".onnx":
        return "onnx"
    if path.suffix.lower() == ".safetensors" or head[8:9] == b"{":
        return "nnslim" if is_network_file(path) else "safetensors"
    if head.startswith(b"PK"):
        return _archive_kind(path)
    if head.startswith(_PICKLE):
        return "torch"
    message = f"{path}: is not a model file ({size} bytes that begin with {head[:4]!r})"
    raise InputError(message, hint="give a .safetensors, .pt, .pth, .th or .pt2 file")


def model_file(path: Path) -> Path:
    """Return the network file of a result folder, and any other path as it is.

    Example:
        >>> model_file(Path("slim.safetensors"))
        PosixPath('slim.safetensors')
    """
    inside = path / _IN_FOLDER
    return inside if inside.is_file() else path


def _head(path: Path) -> tuple[bytes, int]:
    if path.is_dir():
        raise InputError(
            f"{path}: is a directory without {_IN_FOLDER}", hint="give the model file inside it"
        )
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file", hint=_missing_hint(path)) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}") from error
    if not head:
        raise InputError(f"{path}: is empty", hint="copy or download it again")
    return head, path.stat().st_size


def _missing_hint(path: Path) -> str:
    if ":" in path.name or not path.suffix:
        return f"for an architecture without weights use [[arch={path}]]"
    return "check the path"


def _archive_kind(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        message = f"{path}: is damaged or truncated: {error}"
        raise InputError(message, hint="copy or download it again") from error
    if "archive_format" in names:
        return "exported"
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return "torchscript"
    if "data.pkl" in names:
        return "torch"
    message = f"{path}: is a zip archive, but not one that torch wrote"
    raise InputError(message, hint="give a .safetensors, .pt, .pth, .th or .pt2 file")
