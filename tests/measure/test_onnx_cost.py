from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from torch import nn

from nnslim.errors import InputError
from nnslim.measure.onnx_cost import onnx_file_cost
from nnslim.onnx import export_onnx
from nnslim.settings.export import ExportSettings
from tests.onnx.nets import randomise_norms


def value(name, *shape):
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def weight(name, *shape, dtype=np.float32):
    return onnx.numpy_helper.from_array(np.zeros(shape, dtype), name)


def model(nodes, inputs, outputs, weights):
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets)


def test_grouped_strided_conv():
    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], group=4, strides=[2, 2], pads=[1, 1, 1, 1]
    )
    inputs, outputs = [value("x", "batch", 8, 32, 20)], [value("y", "batch", 12, 16, 10)]
    cost = onnx_file_cost(
        model([node], inputs, outputs, [weight("w", 12, 2, 3, 3), weight("b", 12)])
    )
    assert cost.macs == 12 * 16 * 10 * 2 * 3 * 3
    assert cost.n_parameters == 12 * 2 * 9 + 12
    assert dict(cost.macs_by_operator) == {"Conv": cost.macs}
    assert cost.not_counted == ()


@pytest.mark.parametrize("batch", ["batch", 1, 5])
def test_per_image_whatever_the_batch(batch):
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    weights = [weight("w", 7, 6), weight("b", 7), weight("v", 7, 3)]
    cost = onnx_file_cost(model(nodes, [value("x", batch, 6)], [value("y", batch, 3)], weights))
    assert cost.macs == 6 * 7 + 7 * 3
    assert dict(cost.macs_by_operator) == {"Gemm": 42, "MatMul": 21}
    assert cost.n_parameters == 42 + 7 + 21


def test_attention_like_matmul_has_no_weights():
    node = helper.make_node("MatMul", ["x", "z"], ["y"])
    inputs = [value("x", "batch", 2, 5, 4), value("z", "batch", 2, 4, 5)]
    inputs[1].type.tensor_type.shape.dim[0].dim_param = "batch"
    cost = onnx_file_cost(model([node], inputs, [value("y", "batch", 2, 5, 5)], []))
    assert (cost.macs, cost.n_parameters) == (2 * 5 * 4 * 5, 0)


def test_shapes_and_scalars_are_no_parameters_but_constant_nodes_are():
    constant = helper.make_node("Constant", [], ["w"], value=weight("", 4, 3))
    nodes = [constant, helper.make_node("MatMul", ["x", "w"], ["h"])]
    nodes += [
        helper.make_node("Reshape", ["h", "s"], ["r"]),
        helper.make_node("Mul", ["r", "k"], ["y"]),
    ]
    stored = [weight("k"), onnx.numpy_helper.from_array(np.array([-1, 3]), "s")]
    cost = onnx_file_cost(model(nodes, [value("x", "batch", 4)], [value("y", "batch", 3)], stored))
    assert (cost.n_parameters, cost.macs) == (12, 12)


def test_what_is_not_counted_is_named():
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["h"]),
        helper.make_node("Mystery", ["h"], ["i"], domain="com.example"),
        helper.make_node("Odd", ["i", "w"], ["y"], domain="com.example"),
        helper.make_node("Add", ["x", "w"], ["z"]),
    ]
    cost = onnx_file_cost(
        model(nodes, [value("x", 1, 2, 4, 4)], [value("y", 1, 3, 6, 6)], [weight("w", 2, 3, 3, 3)])
    )
    assert cost.not_counted == ("ConvTranspose", "Odd")


def test_unknown_shape_is_none_not_a_guess():
    nodes = [
        helper.make_node("Mystery", ["x"], ["h"], domain="com.example"),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info("y", 1, None)]
    cost = onnx_file_cost(model(nodes, [value("x", "batch", 4)], outputs, [weight("w", 4, 3)]))
    assert cost.macs is None
    assert cost.n_parameters == 12
    unshaped = model(nodes, [value("x", "batch", 4)], outputs, [weight("w", 4, 3)])
    unshaped.graph.value_info.append(helper.make_tensor_value_info("h", 1, None))
    assert onnx_file_cost(unshaped).macs is None  # no shape is not the shape of a scalar
    invalid = model(nodes, [value("x", "batch", 4)], outputs, [weight("w", 4, 3)])
    del invalid.opset_import[1]  # shape inference refuses the whole model now
    assert onnx_file_cost(invalid).macs is None


@pytest.mark.parametrize("batch", [None, 4])
def test_exported_network_against_closed_forms(tmp_path, batch):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    net.input_shape = (3, 9, 9)
    randomise_norms(net)  # a fresh norm folds into a bias of zeros, which the exporter leaves out
    path = export_onnx(net, tmp_path / "n.onnx", settings=ExportSettings(batch=batch)).path
    cost = onnx_file_cost(path)
    assert cost.macs == 8 * 25 * 27 + 8 * 25 * 9 + 32 * 10
    folded = 8 * 27 + 8  # the BatchNorm has become a bias: 8 parameters fewer
    assert cost.n_parameters == folded + 8 * 9 + 8 + 32 * 10 + 10
    assert cost.n_parameters == sum(p.numel() for p in net.parameters()) - 8
    assert cost.not_counted == ()


def test_damaged_file(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"\x08")
    with pytest.raises(InputError):
        onnx_file_cost(tmp_path / "x.onnx")
