"""One safetensors file that holds a whole network: weights, graph, preprocessing, history.

The header is read as data from anywhere: sizes are bounded, operators come from a closed list,
every shape is checked on meta tensors before anything is computed.
See docs/reference/file-format.md.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from nnslim.artifact.replacing import replacing
from nnslim.data.preprocess import Preprocess
from nnslim.errors import InputError
from nnslim.network.codec import FORMAT, canonical_json, graph_from_json, graph_to_json
from nnslim.network.graph import CustomRules
from nnslim.network.network import Network
from nnslim.network.shapes import check_shapes
from nnslim.version import __version__

__all__ = ["is_network_file", "load_network", "read_metadata", "save_network"]

_MAX_HEADER_BYTES = 100_000_000


def save_network(network: Network, path: Path | str) -> None:
    """Write a network to one self-contained file, atomically; equal networks give equal bytes.

    Args:
        network: The network; its mode and device are not stored.
        path: File to write, usually ``*.safetensors``.

    Raises:
        InputError: The directory does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such directory", hint="create it first")
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.tensors().items()}
    data = _canonical(safetensors.torch.save(tensors, metadata=_metadata(network)))
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def load_network(path: Path | str, operators: CustomRules | None = None) -> Network:
    """Read a network that ``save_network`` wrote; runs no code from the file.

    Args:
        path: The file.
        operators: Custom operators that the file may use, with their rules.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        InputError: The file is missing, damaged, of a newer format, or inconsistent.
        UnsupportedModelError: Its graph names an operator this version does not know.
    """
    path = Path(path)
    metadata = read_metadata(path)
    if "nnslim.format" not in metadata:
        message = f"{path} holds weights without a graph"
        raise InputError(message, hint="name the architecture with [[arch]]")
    # A file's tensors lie anywhere in memory, and kernels round unaligned ones differently.
    tensors = {name: t.clone() for name, t in safetensors.torch.load_file(path).items()}
    try:
        return _network(metadata, tensors, operators or {})
    except InputError as error:
        raise error.at(str(path)) from error


def is_network_file(path: Path | str) -> bool:
    """Whether a safetensors file carries a graph of ours.

    Raises:
        InputError: The file is missing or is no safetensors file.
    """
    return "nnslim.format" in read_metadata(Path(path))


def read_metadata(path: Path | str) -> dict[str, str]:
    """Return the ``__metadata__`` of a safetensors file.

    Raises:
        InputError: The file is missing, truncated, or its header is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint="check the path")
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= _MAX_HEADER_BYTES:
            raise InputError(f"{path} is not a safetensors file: its header length is {length}")
        if length + 8 > size:
            raise InputError(
                f"{path} is truncated: the header takes {length} bytes and the file has {size}"
            )
        header = _header(path, file.read(length))
    try:
        with safetensors.safe_open(path, framework="pt"):
            pass
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is damaged: {error}", hint="copy or download it again") from error
    metadata = header.get("__metadata__", {})
    return {str(key): str(value) for key, value in cast("dict[str, object]", metadata).items()}


def _header(path: Path, data: bytes) -> dict[str, object]:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise InputError(f"{path} is not a safetensors file: its header is not an object")
    return cast("dict[str, object]", header)


def _metadata(network: Network) -> dict[str, str]:
    trainable = {
        n: t.requires_grad for n, t in network.tensors().items() if isinstance(t, nn.Parameter)
    }
    entries: dict[str, object] = {
        "nnslim.graph": graph_to_json(network.graph),
        "nnslim.parameters": trainable,
        "nnslim.history": list(network.history),
        "nnslim.notes": list(network.notes),
    }
    if network.preprocess is not None:
        entries["nnslim.preprocess"] = network.preprocess.to_json()
    if network.classes is not None:
        entries["nnslim.classes"] = list(network.classes)
    texts = {key: canonical_json(value) for key, value in entries.items()}
    return {"format": "pt", "nnslim.format": str(FORMAT), "nnslim.version": __version__, **texts}


def _canonical(data: bytes) -> bytes:
    """Sort the header, whose order safetensors leaves to chance."""
    (length,) = struct.unpack("<Q", data[:8])
    header = cast("dict[str, object]", json.loads(data[8 : 8 + length]))
    metadata = cast("dict[str, str]", header.pop("__metadata__"))
    ordered = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(ordered, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _network(
    metadata: Mapping[str, str], tensors: dict[str, Tensor], operators: CustomRules
) -> Network:
    version = metadata["nnslim.format"]
    if version != str(FORMAT):
        raise InputError(
            f"the file has format {version}; this nnslim reads {FORMAT}", hint="update nnslim"
        )
    graph = graph_from_json(_json(metadata, "nnslim.graph"), operators)
    for name in graph.tensor_names():
        if name not in tensors:
            raise InputError(f"the graph uses the tensor {name!r}, which the file lacks")
    check_shapes(graph, tensors)
    trainable = cast("dict[str, bool]", _json(metadata, "nnslim.parameters", dict))
    ordered = dict.fromkeys((*graph.tensor_names(), *tensors))
    owned = {
        name: nn.Parameter(tensors[name], requires_grad=bool(trainable[name]))
        if _trains(name, tensors[name], trainable)
        else tensors[name]
        for name in ordered
    }
    preprocess = classes = None
    if "nnslim.preprocess" in metadata:
        values = _json(metadata, "nnslim.preprocess", dict)
        preprocess = Preprocess.from_json(cast("dict[str, object]", values))
    if "nnslim.classes" in metadata:
        classes = tuple(
            str(c) for c in cast("list[object]", _json(metadata, "nnslim.classes", list))
        )
    history = cast("list[Mapping[str, object]]", _json(metadata, "nnslim.history", list, []))
    notes = cast("list[object]", _json(metadata, "nnslim.notes", list, []))
    return Network(
        graph,
        owned,
        preprocess=preprocess,
        classes=classes,
        history=tuple(history),
        notes=tuple(str(note) for note in notes),
    ).eval()


def _trains(name: str, tensor: Tensor, trainable: Mapping[str, bool]) -> bool:
    return name in trainable and (tensor.is_floating_point() or tensor.dtype == torch.complex64)


def _json(
    metadata: Mapping[str, str], key: str, kind: type = dict, default: object = None
) -> object:
    if key not in metadata:
        if default is not None:
            return default
        raise InputError(f"the header lacks {key!r}")
    try:
        value = json.loads(metadata[key])
    except (ValueError, RecursionError) as error:
        raise InputError(f"the header's {key!r} is not JSON") from error
    if not isinstance(value, kind):
        raise InputError(f"the header's {key!r} is not a JSON {kind.__name__}")
    return value
