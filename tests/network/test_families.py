"""Operators by kind and arguments by name, whichever way a graph writes them down."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nnslim.growing.seed import reset
from nnslim.measure.macs import weighted_positions
from nnslim.network import Node, Ref, TensorRef, trace_network
from nnslim.network.operators import OPERATORS, family_of

NAME = "nnslimtest::conv_shift"
OP = "nnslimtest.conv_shift.default"


@pytest.fixture(scope="module", autouse=True)
def registered():
    @torch.library.custom_op(NAME, mutates_args=())
    def conv_shift(x: Tensor, weight: Tensor) -> Tensor:
        return x + weight.view(-1, 1, 1).to(x.dtype)

    conv_shift.register_fake(lambda x, weight: torch.empty_like(x))


class Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(1.0, 4.0, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.nnslimtest.conv_shift(x, self.weight)


def test_an_operator_of_the_users_is_no_layer_whatever_its_name():
    def rule(walk, node, args):
        labels = walk.labels(args["x"])
        walk.tie(labels[1], walk.labels(args["weight"])[0])
        return labels

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Shift())
    network = trace_network(model, torch.zeros(2, 3, 8, 8), operators={OP: rule})
    node = network.graph.nodes[-1]
    assert (node.op, node.family, node.layer_weight) == (OP, "", None)
    assert list(network.graph.layer_weights) == ["0.weight"]
    assert list(weighted_positions(network)) == ["conv2d"]
    before = network.tensor("1.weight").detach().clone()
    assert torch.equal(reset(network, 0).tensor("1.weight"), before)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((Ref("x"), TensorRef("w"), None, (2, 2)), {}),
        ((Ref("x"),), {"weight": TensorRef("w"), "stride": (2, 2)}),
    ],
)
def test_an_argument_is_found_by_its_name(args, kwargs):
    node = Node("y", "aten.conv2d.default", args, kwargs, None)
    assert node.layer_weight == "w"
    assert node.operand == Ref("x")
    assert (node.argument("stride"), node.argument("bias")) == ((2, 2), None)
    assert (node.argument("padding"), node.argument("groups")) == ((0, 0), 1)
    with pytest.raises(KeyError):
        node.argument("running_mean")


def test_a_transposed_convolution_is_told_by_its_flag_too():
    rest = ((1, 1), (0, 0), (1, 1))
    families = [
        Node(
            "y",
            "aten.convolution.default",
            (Ref("x"), TensorRef("w"), None, *rest, flag, (0, 0), 1),
            {},
            None,
        ).family
        for flag in (False, True)
    ]
    assert families == ["convolution", "transposed_convolution"]


def test_every_operator_of_torch_has_a_family_and_no_other_has():
    assert all(bool(family_of(op)) == op.startswith("aten.") for op in OPERATORS)
    assert family_of("aten.conv_tbc.default") == ""  # not on the closed list
