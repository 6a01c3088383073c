"""Read an ONNX file from anybody, and say in one sentence what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from nnslim.errors import InputError

__all__ = ["external_files", "free_batch_name", "read_model"]


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
    """Files in which a model keeps weights, each inside the model's folder.

    Args:
        model: What ``path`` holds.
        path: The model's file.

    Returns:
        Every file once, in the order of names.

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
