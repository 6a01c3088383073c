"""Read an ONNX file from anybody, and say in one sentence what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from nnslim.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["free_batch_name", "read_model"]


def read_model(path: Path) -> onnx.ModelProto:
    """Read ``path`` whole, weights included.

    Raises:
        InputError: No such file, not ONNX or cut short, or weights kept outside the file.

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
    _refuse_external_data(model, path)
    return model


def _refuse_external_data(model: onnx.ModelProto, path: Path) -> None:
    """A file with its weights elsewhere is not what would be shipped, and may point anywhere."""
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = next((e.value for e in tensor.external_data if e.key == "location"), "?")
            hint = "save it again as one file (onnx.save with save_as_external_data=False)"
            raise InputError(f"{path}: {tensor.name} is stored outside, in {place}", hint=hint)


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
