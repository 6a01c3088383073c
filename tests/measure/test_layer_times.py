"""Times of single layers: shapes read off the graph, slopes recovered, models that are right."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnslim.measure.bench import layer_model, time_layers
from nnslim.measure.layer_times import LayerShape, estimate_times, layer_shapes
from nnslim.measure.macs import count_macs
from nnslim.network import trace_network
from nnslim.onnx import open_session
from nnslim.settings.session import SessionSettings
from tests.network.nets import NETS, network_of, traced

LAYERS = {
    "plain": nn.Conv2d(16, 24, 3),
    "stride and padding": nn.Conv2d(16, 32, 5, stride=(2, 1), padding=(2, 1)),
    "same": nn.Conv2d(16, 16, 3, padding="same", dilation=2),
    "valid": nn.Conv2d(16, 16, 3, padding="valid", bias=False),
    "depthwise": nn.Conv2d(16, 16, 3, padding=1, groups=16),
    "depthwise, two each": nn.Conv2d(40, 80, 3, groups=40),
    "grouped": nn.Conv2d(32, 64, 1, groups=4),
    "narrow": nn.Conv2d(3, 5, 3),
}


def shape_of(layer: nn.Conv2d, size: int = 12) -> LayerShape:
    network = trace_network(
        nn.Sequential(layer).eval(), torch.zeros(2, layer.in_channels, size, size)
    )
    ((_, shape),) = layer_shapes(network).values()
    assert shape is not None
    return shape


@pytest.mark.parametrize("name", NETS)
def test_shapes_count_the_same_macs_as_the_network(name):
    network = traced(name)
    counted = count_macs(network).by_node
    shapes = layer_shapes(network)
    assert {node: shape.macs for node, (_, shape) in shapes.items()} == counted


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_layers_model_computes_what_torch_does(layer, tmp_path):
    shape = shape_of(layer)
    model = layer_model(shape, batch=2)
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path / "layer.onnx"
    path.write_bytes(model.SerializeToString())
    x = np.random.default_rng(1).standard_normal((2, shape.inputs, 12, 12), dtype=np.float32)
    weight = torch.from_numpy(onnx.numpy_helper.to_array(model.graph.initializer[0]).copy())
    assert weight.shape == layer.weight.shape
    with torch.no_grad():
        layer.weight.copy_(weight)
        expected = layer(torch.from_numpy(x)).sub(
            0 if layer.bias is None else layer.bias[:, None, None]
        )
    found = open_session(path, SessionSettings("cpu")).run(x)
    np.testing.assert_allclose(found[..., 0, 0], expected.mean((2, 3)), rtol=1e-3, atol=1e-3)


def test_a_linear_layers_model_has_its_rows(tmp_path):
    network = trace_network(nn.Sequential(nn.Linear(24, 40)).eval(), torch.zeros(2, 3, 5, 24))
    ((_, shape),) = layer_shapes(network).values()
    assert (shape.is_linear, shape.image, shape.macs) == (True, (1, 15), 15 * 24 * 40)
    path = tmp_path / "layer.onnx"
    model = layer_model(shape, batch=2)
    path.write_bytes(model.SerializeToString())
    x = np.random.default_rng(1).standard_normal((2, 1, 15, 24), dtype=np.float32)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    expected = F.linear(torch.from_numpy(x), torch.from_numpy(weight.T.copy()))
    found = open_session(path, SessionSettings("cpu")).run(x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_half_a_layer_is_a_layer(layer):
    shape = shape_of(layer)
    half = shape.halved()
    onnx.checker.check_model(layer_model(half, 1), full_check=True)
    assert half.macs <= shape.macs
    assert (half.macs < shape.macs) == (max(shape.inputs, shape.outputs) >= 16)
    assert half.positions == shape.positions


@cache
def four_layers():
    return network_of(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.Conv2d(32, 32, 3, groups=32),
        nn.Conv2d(32, 48, 1),
        nn.Flatten(),
        nn.Linear(48 * 36, 20),
    )


@given(st.integers(0, 999))
def test_price_and_rest_of_a_linear_truth_are_recovered(seed):
    """Every layer costs its own price per multiply-add, and a launch."""
    network = four_layers()
    rng = np.random.default_rng(seed)
    launch = rng.uniform(0, 0.1)
    prices: dict[tuple, float] = {}

    def truth(layers):
        for layer in layers:
            prices.setdefault((layer.kernel, layer.positions), rng.uniform(1e-7, 1e-5))
        return [launch + prices[layer.kernel, layer.positions] * layer.macs for layer in layers]

    found = estimate_times(network, truth)
    shapes = layer_shapes(network)
    assert found.n_timed == 4
    assert found.total_ms == pytest.approx(sum(truth([shape for _, shape in shapes.values()])))
    for weight, shape in shapes.values():
        per_entry = prices[shape.kernel, shape.positions] * shape.positions
        assert found.per_entry_ms[weight] == pytest.approx(per_entry, rel=1e-6)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_layer_that_only_costs_its_launch_is_worth_nothing():
    network = network_of(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 1))
    found = estimate_times(network, lambda layers: [0.02] * len(layers))
    assert found.total_ms == pytest.approx(0.04)
    assert found.per_entry_ms["2.weight"] == 0


def test_noise_never_makes_a_channel_worth_less_than_nothing():
    network = network_of(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 1))
    times = iter([5.0, 5.0, 9.0, 9.0])
    found = estimate_times(network, lambda layers: [next(times) for _ in layers])
    assert min(found.per_entry_ms.values()) >= 0


def test_a_layer_used_twice_costs_twice_and_others_are_guessed_by_the_average():
    shared = nn.Conv2d(16, 16, 1)
    network = network_of(
        nn.Conv2d(3, 16, 1), shared, nn.ReLU(), shared, nn.ConvTranspose2d(16, 4, 2)
    )
    found = estimate_times(network, lambda layers: [1e-6 * layer.macs for layer in layers])
    assert found.guessed == ("4.weight",)
    assert found.per_entry_ms["1.weight"] == pytest.approx(2 * 64e-6)
    assert found.per_entry_ms["4.weight"] == pytest.approx(64e-6)
    assert found.total_ms == pytest.approx(1e-6 * count_macs(network).total)


def test_real_layers_take_time():
    layers = [shape_of(nn.Conv2d(16, 16, 3)), shape_of(nn.Conv2d(16, 64, 3), size=24)]
    times = time_layers(layers, SessionSettings("cpu", threads=1), batch=1)
    assert len(times) == 2
    assert min(times) > 0
