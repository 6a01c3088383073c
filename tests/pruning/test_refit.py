"""Fitting what a removal leaves: least squares, where inputs changed, and nowhere else."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnslim.channels import channel_groups
from nnslim.network import trace_network
from nnslim.pruning.fit import refit_weights
from nnslim.surgery import Edit, apply_edit
from nnslim.surgery.edit import resolve_edit
from tests.network.nets import NETS, traced

RIDGE = 1e-2


def fitted(network, edit, images):
    """The cut network before and after fitting, and what was said of it."""
    network = copy.deepcopy(network).eval()
    groups = channel_groups(network)
    cut = apply_edit(network, edit, groups).eval()
    after = copy.deepcopy(cut)
    return network, cut, after, refit_weights(network, after, resolve_edit(groups, edit), images)


def images_for(network, n=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *network.input_shape, generator=generator)


def half_of_all(network):
    groups = channel_groups(network)
    free = [g for g in groups.prunable if g.parts is None]
    return Edit({g.name: np.arange(max(1, g.width // 2)) for g in free})


@pytest.mark.parametrize(
    "how",
    [
        {"kernel_size": 3},
        {"kernel_size": (3, 1), "padding": (1, 0)},
        {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False},
        {"kernel_size": 3, "stride": (1, 2), "dilation": (2, 1), "padding": (0, 2)},
    ],
)
def test_the_weights_are_those_of_a_least_squares_solver(how):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, **how))
    network = trace_network(model, torch.zeros(2, 2, 9, 8))
    images = images_for(network)
    dense, cut, after, _ = fitted(network, Edit({"0": np.array([0, 2, 3, 5])}), images)
    with torch.no_grad():
        inputs = F.conv2d(images, cut.tensor("0.weight"), cut.tensor("0.bias")).relu()
        wanted = dense(images).permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    own = {key: value for key, value in how.items() if key != "bias"}
    rows = F.unfold(inputs, **own).transpose(1, 2).flatten(0, 1).double().numpy()
    old = cut.tensor("2.weight").detach().flatten(1).double().numpy().T
    if how.get("bias", True):
        rows = np.concatenate([rows, np.ones((len(rows), 1))], 1)
        old = np.concatenate([old, cut.tensor("2.bias").detach().double().numpy()[None]])
    held = np.sqrt(RIDGE * np.square(rows).sum(0).mean())
    stacked = np.concatenate([rows, held * np.eye(rows.shape[1])])
    solved = np.linalg.lstsq(stacked, np.concatenate([wanted, held * old]), rcond=None)[0]
    found = after.tensor("2.weight").detach().flatten(1).double().numpy().T
    if how.get("bias", True):
        found = np.concatenate([found, after.tensor("2.bias").detach().double().numpy()[None]])
    np.testing.assert_allclose(found, solved, rtol=1e-4, atol=1e-5)


def test_a_removed_copy_of_a_channel_is_made_up_for():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )
    with torch.no_grad():
        model[0].weight[4:], model[0].bias[4:] = model[0].weight[:4], model[0].bias[:4]
    network = trace_network(model, torch.zeros(2, 2, 8, 8))
    dense, cut, after, found = fitted(
        network, Edit({"0": np.arange(4)}), images_for(network, n=256)
    )
    assert [layer.weight for layer in found] == ["2.weight", "5.weight"]
    fresh = images_for(network, n=64, seed=1)
    with torch.no_grad():
        error, left = ((own(fresh) - dense(fresh)).norm() for own in (cut, after))
    assert left < 0.05 * error


@pytest.mark.parametrize("name", sorted(NETS))
def test_fits_lower_the_error_and_reach_no_layer_whose_inputs_are_whole(name):
    network = traced(name)
    _, cut, after, found = fitted(network, half_of_all(network), images_for(network))
    fitted_names = {layer.weight for layer in found}
    assert all(layer.after <= layer.before for layer in found)
    first = next(n for n in cut.graph.nodes if n.layer_weight is not None)
    assert first.layer_weight not in fitted_names
    for key, tensor in cut.tensors().items():
        layer = f"{key.rpartition('.')[0]}.weight"
        if layer not in fitted_names:
            assert torch.equal(tensor, after.tensor(key)), key


def test_nothing_removed_is_nothing_fitted():
    network = traced("Residual")
    _, cut, after, found = fitted(network, Edit({}), images_for(network))
    assert found == ()
    assert all(torch.equal(t, after.tensor(key)) for key, t in cut.tensors().items())


def test_grouped_and_shared_weights_stay():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.wide = nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.same, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x):
            x = self.wide(self.stem(x).relu())
            return self.head(self.same(self.same(x).relu()))

    network = trace_network(Twice(), torch.zeros(2, 2, 8, 8))
    (stem,) = (g.name for g in channel_groups(network).prunable if "stem.weight" in str(g.members))
    _, cut, after, found = fitted(network, Edit({stem: np.arange(4)}), images_for(network))
    assert [layer.weight for layer in found] == ["head.weight"]
    for key in ("stem.weight", "wide.weight", "same.weight"):
        assert torch.equal(cut.tensor(key), after.tensor(key))


def test_dead_inputs_and_weights_that_are_not_finite_leave_a_layer_alone():
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1, bias=False))
    for value in (-1.0, float("nan")):
        with torch.no_grad():
            model[0].weight.zero_()
            model[0].bias.fill_(value)
        network = trace_network(model, torch.zeros(2, 2, 4, 4))
        _, cut, after, _ = fitted(network, Edit({"0": np.arange(2)}), images_for(network))
        assert torch.equal(cut.tensor("2.weight"), after.tensor("2.weight"))


@settings(max_examples=20)
@given(st.integers(0, 9999), st.sampled_from(["Plain", "Residual", "Concat"]))
def test_fits_are_deterministic(seed, name):
    network = traced(name)
    images = images_for(network, n=4, seed=seed)
    first, second = (fitted(network, half_of_all(network), images)[2] for _ in range(2))
    assert all(torch.equal(t, second.tensor(key)) for key, t in first.tensors().items())
