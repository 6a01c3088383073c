"""What a file of nnslim says of itself; read one from anybody, and say what is wrong with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from torch import nn

from nnslim.errors import InputError
from nnslim.onnx.image_input import INPUT_KEY
from nnslim.version import __version__

__all__ = [
    "PREFIX",
    "external_files",
    "free_batch_name",
    "network_metadata",
    "read_model",
    "weights_sha256",
]

PREFIX = "nnslim."


def read_model(path: Path) -> onnx.ModelProto:
    """Read ``path``; weights in files beside it stay there, and are only looked for.

    Raises:
        InputError: No such file, not ONNX or cut short, or weights outside of its folder.

    Example:
        >>> from pathlib import Path
        >>> read_model(Path("nowhere.onnx"))
        Traceback (most recent call last):
        nnslim.errors.InputError: nowhere.onnx: no such file; check the path
    """
    if not path.is_file():
        kind = "is a folder, not a file" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {kind}", hint="check the path")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        hint = "it is damaged, cut short or of another format: export it again"
        raise InputError(f"{path}: not readable as ONNX", hint=hint) from error
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{path}: holds no ONNX graph", hint="export it again")
    external_files(model, path)
    return model


def external_files(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Files in which a model, read from ``path``, keeps weights, in the order of names.

    Raises:
        InputError: A place outside of the folder, which a file of somebody else must not name, or
            a file that is not there; names the tensor.
    """
    home = path.parent.resolve()
    files: set[Path] = set()
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        place = next((e.value for e in tensor.external_data if e.key == "location"), "")
        file = (home / place).resolve()  # follows links
        if not place or not file.is_relative_to(home) or file == home:
            hint = "save it again as one file, or with its data beside it"
            raise InputError(f"{path}: {tensor.name} is stored outside, in {place}", hint=hint)
        if not file.is_file():
            raise InputError(f"{path}: {tensor.name} is in {place}, which is not there")
        files.add(file)
    return tuple(sorted(files))


def free_batch_name(model: onnx.ModelProto) -> str | None:
    """Name of the first input's symbolic first dimension, or None where the batch is a number.

    Example:
        >>> shape = onnx.helper.make_tensor_type_proto(1, ["batch", 3])
        >>> value = onnx.helper.make_value_info("x", shape)
        >>> graph = onnx.helper.make_graph([], "g", [value], [])
        >>> free_batch_name(onnx.helper.make_model(graph))
        'batch'
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in weights:
            dims = value.type.tensor_type.shape.dim
            return (dims[0].dim_param or None) if dims else None
    return None


def network_metadata(
    network: nn.Module, *, precision: str = "float32", pixels: bool = False
) -> dict[str, str]:
    """Return the properties of a file: version, hash, preprocessing, classes, variant.

    ``pixels`` says that it takes uint8 (N, H, W, C) and normalises inside.
    """
    preprocess = getattr(network, "preprocess", None)
    classes = getattr(network, "classes", None)
    values = {"version": __version__, "weights_sha256": weights_sha256(network)}
    if preprocess is not None:
        values["preprocess"] = json.dumps(preprocess.to_json(), sort_keys=True)
    if classes is not None:
        values["classes"] = json.dumps(list(classes), ensure_ascii=False)
    if precision != "float32":
        values["precision"] = precision
    result = {f"{PREFIX}{key}": value for key, value in values.items()}
    if pixels:
        form = {"layout": "NHWC", "dtype": "uint8", "normalised": "inside"}
        result[INPUT_KEY] = json.dumps(form, sort_keys=True)
    return result


def weights_sha256(network: nn.Module) -> str:
    """Hash names, types, shapes and values of all parameters and buffers, in the order of names.

    Example:
        >>> from torch import nn
        >>> layer = nn.Linear(2, 3)
        >>> weights_sha256(layer) == weights_sha256(nn.Linear(2, 3))
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
