"""Count parameters and multiply-adds of an ONNX file, and name what was not counted.

MACs: Conv, Gemm and MatMul, one multiply-add each, for one image. Parameters: the values stored in
the file. Exporters fold BatchNorm into the convolution before it, so a file holds fewer parameters
than the network that it came from; the work per image is the same.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from nnslim.onnx.model_file import free_batch_name, read_model

__all__ = ["OnnxCost", "onnx_file_cost"]

# Shapes, axes and switches are stored as int64 and bool; everything else is a weight.
_NOT_WEIGHTS = (TensorProto.INT64, TensorProto.BOOL)
_SMALL = 1024  # values; a tensor that is a shape itself is smaller
_Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class OnnxCost:
    """What one ONNX file holds and does.

    Attributes:
        n_parameters: Stored values, apart from scalars and from shapes (int64, bool).
        macs: Multiply-adds per image of Conv, Gemm and MatMul; None where a shape is unknown.
        macs_by_operator: The same by operator type.
        not_counted: Operator types that hold weights or a graph and are not in
            ``macs``.
    """

    n_parameters: int
    macs: int | None
    macs_by_operator: Mapping[str, int]
    not_counted: tuple[str, ...]


def onnx_file_cost(source: Path | onnx.ModelProto) -> OnnxCost:
    """Count one file, or one model in memory, which is not changed.

    Raises:
        InputError: The file cannot be read as ONNX.

    Example:
        >>> helper = onnx.helper
        >>> x = helper.make_tensor_value_info("x", 1, ["batch", 4])
        >>> y = helper.make_tensor_value_info("y", 1, ["batch", 3])
        >>> w = helper.make_tensor("w", 1, (4, 3), [0.0] * 12)
        >>> node = helper.make_node("MatMul", ["x", "w"], ["y"])
        >>> cost = onnx_file_cost(helper.make_model(helper.make_graph([node], "g", [x], [y], [w])))
        >>> cost.n_parameters, cost.macs
        (12, 12)
    """
    model = source if isinstance(source, onnx.ModelProto) else read_model(source)
    weights = _weights(model)
    shapes, images = _shapes(model)
    counted: dict[str, int] = {}
    skipped: set[str] = set()
    unknown = False
    for node in model.graph.node:
        rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is None:
            if _may_multiply(node, weights):
                skipped.add(node.op_type)
            continue
        try:
            macs = rule(node, shapes)
        except KeyError:
            unknown = True
            continue
        counted[node.op_type] = counted.get(node.op_type, 0) + macs
    return OnnxCost(
        n_parameters=sum(weights.values()),
        macs=None if unknown else sum(counted.values()) // images,
        macs_by_operator={kind: macs // images for kind, macs in sorted(counted.items())},
        not_counted=tuple(sorted(skipped)),
    )


def _weights(model: onnx.ModelProto) -> dict[str, int]:
    """Name and size of each stored tensor, in initializers and Constant nodes."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                stored[node.output[0]] = attribute.t
    return {
        name: math.prod(tensor.dims)
        for name, tensor in stored.items()
        if tensor.dims and tensor.data_type not in _NOT_WEIGHTS
    }


def _may_multiply(node: onnx.NodeProto, weights: Mapping[str, int]) -> bool:
    """Whether an operator without a rule could hide multiply-adds: say so rather than guess."""
    inner = any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute)
    elementwise = node.op_type in _ELEMENTWISE and node.domain in ("", "ai.onnx")
    return inner or (not elementwise and any(weights.get(name, 0) > 1 for name in node.input))


# Operators that use stored tensors without a contraction.
# fmt: off
_ELEMENTWISE = frozenset((
    "Add", "BatchNormalization", "Cast", "Clip", "Concat", "DequantizeLinear", "Div", "Expand",
    "Gather", "GroupNormalization", "Identity", "InstanceNormalization", "LayerNormalization",
    "Max", "Min", "Mul", "PRelu", "Pad", "Pow", "QuantizeLinear", "Reshape", "Resize", "Sub",
    "Transpose", "Where",
))
# fmt: on


def _shapes(model: onnx.ModelProto) -> tuple[_Shapes, int]:
    """Static shapes of all values, with a free batch set to one image, and the batch itself."""
    hollow = _without_weights(model)
    name = free_batch_name(model)
    graph = hollow.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if name and dim.dim_param == name:
                dim.dim_value = 1
    with contextlib.suppress(onnx.shape_inference.InferenceError):  # then some stay unknown
        graph = onnx.shape_inference.infer_shapes(hollow, data_prop=True).graph
    shapes: _Shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        dims = kind.shape.dim
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes.setdefault(value.name, tuple(dim.dim_value for dim in dims))
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in stored]
    batch = shapes.get(inputs[0], (1,)) if inputs else (1,)
    return shapes, (batch[0] if batch else 1) or 1


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy all but the values of large tensors, which shape inference would copy twice more."""
    hollow = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    for part in ("node", "input", "output", "value_info"):
        getattr(hollow.graph, part).extend(getattr(model.graph, part))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            hollow.graph.initializer.append(tensor)
        else:
            hollow.graph.initializer.add(
                name=tensor.name, dims=tensor.dims, data_type=tensor.data_type
            )
    return hollow


def _conv(node: onnx.NodeProto, shapes: _Shapes) -> int:
    weight = shapes[node.input[1]]  # (out, in/groups, kh, kw)
    return math.prod(shapes[node.output[0]]) * math.prod(weight[1:])


def _gemm(node: onnx.NodeProto, shapes: _Shapes) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1]


def _matmul(node: onnx.NodeProto, shapes: _Shapes) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


_RULES: dict[str, Callable[[onnx.NodeProto, _Shapes], int]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
