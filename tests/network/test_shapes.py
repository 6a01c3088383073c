"""Shapes are checked before anything is computed, and the message names the node."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nnslim.errors import InputError
from nnslim.network import BATCH, Graph, Network, TensorInfo
from nnslim.network.shapes import check_shapes
from tests.network.nets import NETS, traced


def with_value(graph: Graph, name: str, value: object) -> Graph:
    """The graph with another claim about what one node returns."""
    nodes = [dataclasses.replace(n, value=value) if n.name == name else n for n in graph.nodes]
    return graph.with_nodes(tuple(nodes))


@pytest.mark.parametrize("name", NETS)
def test_a_traced_network_fits(name):
    network = traced(name)
    check_shapes(network.graph, network.tensors())


@pytest.mark.parametrize(
    ("tensor", "shape", "node"),
    [
        ("conv2.weight", (5, 7, 3, 3), "conv2d_1"),  # cannot be computed
        ("conv2.weight", (4, 6, 3, 3), "conv2d_1"),  # computes, gives another shape
        ("conv2.weight", (5, 6, 3), "conv2d_1"),
        ("bn1.running_var", (5,), "batch_norm"),
        ("head.weight", (4, 44), "linear"),
        ("head.bias", (5,), "linear"),
        ("head.weight", (3, 45), "linear"),
    ],
)
def test_the_first_node_that_does_not_fit_is_named(tensor, shape, node):
    network = traced("Plain")
    tensors = network.tensors() | {tensor: torch.zeros(shape)}
    with pytest.raises(InputError, match=rf"do not fit the graph at '{node}', aten\.") as caught:
        check_shapes(network.graph, tensors)
    assert "\n" not in str(caught.value)
    assert "nets.py:" in str(caught.value)


def test_another_dtype_is_named():
    network = traced("Plain")
    tensors = network.tensors() | {"head.weight": network.tensor("head.weight").double()}
    with pytest.raises(InputError, match="at 'linear'"):
        check_shapes(network.graph, tensors)


@pytest.mark.parametrize(
    "value",
    [
        TensorInfo((BATCH, 5), torch.float32),
        TensorInfo((4, BATCH), torch.float32),
        TensorInfo((BATCH, 4), torch.float64),
        (TensorInfo((BATCH, 4), torch.float32),),
        4,
        None,
    ],
)
def test_a_false_claim_of_the_graph_is_named(value):
    network = traced("Plain")
    graph = with_value(network.graph, "linear", value)
    message = r"at 'linear'.* it gives float32 \(N, 4\) where the graph says"
    with pytest.raises(InputError, match=message):
        check_shapes(graph, network.tensors())


def test_nothing_is_computed_and_no_tensor_is_touched():
    network = traced("Residual")
    before = {name: tensor.clone() for name, tensor in network.tensors().items()}
    check_shapes(network.graph, network.tensors())
    for name, tensor in network.tensors().items():
        assert torch.equal(tensor, before[name])


def test_a_network_in_another_precision_fits():
    """``double()`` changes tensors, not the graph: the claims about dtypes follow the tensors."""
    network: Network = traced("Plain").double()
    check_shapes(network.graph, network.tensors())
