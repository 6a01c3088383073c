"""Classifiers that nnslim did not write: layouts, types, several outputs, weights beside the file.

The oracle is numpy: every file computes a linear map of the pixels that is known here.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from nnslim.errors import InputError
from nnslim.measure.accuracy import run_padded
from nnslim.measure.bench import time_layers
from nnslim.measure.layer_times import layer_shapes
from nnslim.network import trace_network
from nnslim.onnx import export_onnx, open_session
from nnslim.onnx.image_input import INPUT_KEY, image_input
from nnslim.settings.session import SessionSettings

CPU = SessionSettings(device="cpu", threads=1)
SHAPE = (3, 6, 5)  # channels, height, width
RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((90, 7)).astype(np.float32)


def wanted(x: np.ndarray) -> np.ndarray:
    """Logits of images (N, C, H, W): the map reads channels last."""
    return x.transpose(0, 2, 3, 1).reshape(len(x), -1).astype(np.float32) @ WEIGHTS


def save(path, *, layout="NCHW", kind=TensorProto.FLOAT, batch="n", outputs=1, tail=(), meta=None):
    """Write a file that computes ``wanted``, in one of the forms that are out there."""
    dims = {"NCHW": SHAPE, "NHWC": (*SHAPE[1:], SHAPE[0])}[layout]
    nodes, value = [], "x"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [value], ["float"], to=TensorProto.FLOAT))
        value = "float"
    if layout == "NCHW":
        nodes.append(helper.make_node("Transpose", [value], ["last"], perm=[0, 2, 3, 1]))
        value = "last"
    nodes.append(helper.make_node("Flatten", [value], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "w"], ["matrix" if tail else "logits"]))
    tensors = [numpy_helper.from_array(WEIGHTS, "w")]
    if tail:
        shape = np.array([0, 7, *tail], np.int64)
        tensors.append(numpy_helper.from_array(shape, "shape"))
        nodes.append(helper.make_node("Reshape", ["matrix", "shape"], ["logits"]))
    results = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 7, *tail])]
    for number in range(1, outputs):
        nodes.append(helper.make_node("Relu", ["logits"], [f"extra{number}"]))
        results.append(
            helper.make_tensor_value_info(f"extra{number}", TensorProto.FLOAT, [batch, 7, *tail])
        )
    inputs = [helper.make_tensor_value_info("x", kind, [batch, *dims])]
    graph = helper.make_graph(nodes, "g", inputs, results[::-1], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, meta or {})
    onnx.save_model(model, path)
    return path


def images(n=3, pixels=False):
    if pixels:
        return RNG.integers(0, 256, (n, *SHAPE)).astype(np.float32)
    return RNG.standard_normal((n, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", ["n", 3])
@pytest.mark.parametrize("tail", [(), (1, 1)])
def test_layouts_batches_and_outputs_that_were_not_flattened(layout, batch, tail, tmp_path):
    session = open_session(save(tmp_path / "a.onnx", layout=layout, batch=batch, tail=tail), CPU)
    x = images()
    np.testing.assert_allclose(run_padded(session, x), wanted(x), rtol=1e-4, atol=1e-4)
    assert session.input_shape == SHAPE
    assert session.batch == (3 if batch == 3 else None)
    guessed = [w for w in session.warnings if "channels are taken to be last" in w]
    assert len(guessed) == (layout == "NHWC")
    bound = session.bind(x)
    bound()
    np.testing.assert_allclose(bound.output().reshape(3, 7), wanted(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_types(kind, layout, tmp_path):
    session = open_session(save(tmp_path / "a.onnx", layout=layout, kind=kind), CPU)
    pixels = kind == TensorProto.UINT8
    x = images(pixels=pixels)
    assert session.input.takes_pixels is pixels
    tolerance = 0.05 if kind == TensorProto.FLOAT16 else 1e-2
    np.testing.assert_allclose(session.run(x), wanted(x), rtol=1e-3, atol=tolerance)
    if pixels:  # a decoder's rounding, and values beyond a byte
        np.testing.assert_array_equal(session.run(x + 0.3), session.run(x))
        np.testing.assert_array_equal(session.run(x + 300), session.run(np.full_like(x, 255)))


def test_the_caller_or_the_file_says_the_layout_where_sizes_do_not():
    dims = ["n", 3, 224, 3]
    assert image_input("x", "tensor(float)", dims, {}, None).layout == "NCHW"
    assert image_input("x", "tensor(float)", dims, {}, "NHWC").shape == (3, 3, 224)
    own = {INPUT_KEY: '{"layout": "NHWC"}'}
    found = image_input("x", "tensor(float)", dims, own, "NCHW")
    assert (found.layout, found.guessed) == ("NHWC", False)
    with pytest.raises(InputError, match="is not JSON"):
        image_input("x", "tensor(float)", dims, {INPUT_KEY: "{"}, None)


def test_one_of_several_outputs(tmp_path):
    path, x = save(tmp_path / "a.onnx", outputs=3), images()
    with pytest.raises(InputError, match=r"3 outputs, .*name the logits with session.output"):
        open_session(path, CPU)
    with pytest.raises(InputError, match=r"no output nothing; there is extra2, extra1, logits"):
        open_session(path, SessionSettings(device="cpu", output="nothing"))
    session = open_session(path, SessionSettings(device="cpu", output="logits"))
    np.testing.assert_allclose(session.run(x), wanted(x), rtol=1e-4, atol=1e-4)


def test_the_named_output_is_for_foreign_files_only(tmp_path):
    path = save(tmp_path / "a.onnx", meta={"nnslim.version": "1"})
    open_session(path, SessionSettings(device="cpu", output="elsewhere"))


def outside(path, location):
    """Move the weights of a file to ``location``, as the file will say it."""
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    place = path.parent / location
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(WEIGHTS.nbytes))):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return place


@pytest.mark.parametrize("location", ["a.onnx.data", "weights/w.bin"])
def test_weights_beside_the_file_are_its_own(location, tmp_path):
    from nnslim.measure.evaluation import evaluate
    from nnslim.measure.results import EvalFile
    from nnslim.settings.eval import EvalSettings

    whole = save(tmp_path / "whole.onnx")
    path = save(tmp_path / "a.onnx")
    outside(path, location)
    x = images()
    np.testing.assert_allclose(open_session(path, CPU).run(x), wanted(x), rtol=1e-4, atol=1e-4)
    settings = EvalSettings(SessionSettings("cpu"), batch_sizes=())
    one, two = evaluate([EvalFile(whole), EvalFile(path)], None, settings).files
    assert two.n_parameters == one.n_parameters == WEIGHTS.size
    assert two.macs == one.macs
    assert WEIGHTS.nbytes < two.onnx_bytes == two.n_bytes < one.onnx_bytes + 500
    before = two.sha256
    place = path.parent / location
    place.write_bytes(b"\0" * WEIGHTS.nbytes)
    (changed,) = evaluate([EvalFile(path)], None, settings).files
    assert changed.sha256 != before


@pytest.mark.parametrize("location", ["../w.bin", "sub/../../w.bin"])
def test_weights_outside_of_the_folder_are_refused(location, tmp_path):
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    path = save(home / "a.onnx")
    outside(path, location)
    with pytest.raises(InputError, match="w is stored outside, in "):
        open_session(path, CPU)


def test_an_absolute_place_a_link_out_and_a_missing_file_are_refused(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(WEIGHTS.tobytes())
    path = save(home / "a.onnx")
    outside(path, "w.bin").unlink()
    with pytest.raises(InputError, match=r"w is in w\.bin, which is not there"):
        open_session(path, CPU)
    (home / "w.bin").symlink_to(secret)
    with pytest.raises(InputError, match="w is stored outside"):
        open_session(path, CPU)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = str(secret)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="w is stored outside"):
        open_session(path, CPU)


def test_a_file_of_nnslim_is_nchw_whatever_its_sizes(tmp_path):
    """Five channels of 4 by 4 look like channels last."""
    path = tmp_path / "a.onnx"
    model = nn.Sequential(nn.Conv2d(5, 2, 1), nn.Flatten())
    network = trace_network(model, torch.zeros(2, 5, 4, 4))
    export_onnx(network, path)
    session = open_session(path, CPU)
    assert session.input_shape == (5, 4, 4)
    assert not session.warnings


@pytest.mark.parametrize("side", [1, 3, 4])
def test_layers_with_small_images_are_timed(side):
    layer = nn.Conv2d(64, 8, 1)
    network = trace_network(nn.Sequential(layer), torch.zeros(2, 64, side, side))
    ((_, shape),) = layer_shapes(network).values()
    (milliseconds,) = time_layers([shape], CPU, 2)
    assert milliseconds > 0
