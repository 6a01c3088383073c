"""The nine penalties against their formulas, and where those have no derivative."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import get_args

import pytest
import torch
from torch import Tensor

from nnslim.errors import ConfigError
from nnslim.pruning.sparse.regularizers import channel_penalties, form_of, kernel_pull
from nnslim.settings.prune import Penalty, RegularizerConfig
from tests.pruning.formulas import FORMULAS

NAMES = get_args(Penalty)
TAPS = 4
# Kernels of three channels, in no order; the last channel has one kernel only.
CHANNEL = torch.tensor([1, 0, 0, 1, 2, 0])


def weights(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(CHANNEL), TAPS, generator=generator, dtype=torch.float64)


def gradient(name: Penalty, w: Tensor, share: Tensor, floor: float) -> Tensor:
    """What the closed form makes of kernels (K, taps)."""
    form = form_of(name)
    norms = w.abs().sum(1) if form.norm == 1 else w.square().sum(1).sqrt()
    floors = torch.full_like(norms, floor * TAPS ** (1 / form.norm))
    pull = kernel_pull(form, norms, floors, CHANNEL, share)
    return pull[:, None] * (w.div(floor).clamp(-1, 1) if form.norm == 1 else w)


def test_every_formula_has_a_name():
    assert set(NAMES) == set(FORMULAS)


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_those_of_the_formula(name):
    w = weights().requires_grad_()
    share = torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)
    by_hand = [FORMULAS[name](list(w[channel == CHANNEL])) for channel in range(3)]
    form = form_of(name)
    norms = w.abs().sum(1) if form.norm == 1 else w.square().sum(1).sqrt()
    torch.testing.assert_close(
        channel_penalties(form, norms, CHANNEL, 3), torch.stack(by_hand), rtol=1e-12, atol=0
    )
    (expected,) = torch.autograd.grad(sum(s * v for s, v in zip(share, by_hand, strict=True)), w)
    found = gradient(name, w.detach(), share, floor=1e-9)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_the_degree_says_how_a_penalty_scales(name):
    form, w = form_of(name), weights()
    value = [float(FORMULAS[name](list(t * w))) for t in (1.0, 1e-3)]
    assert math.log(value[1] / value[0], 1e-3) == pytest.approx(form.degree, rel=1e-9)
    pulls = [gradient(name, t * w, torch.ones(3).double(), 1e-12).norm() for t in (1.0, 1e-3)]
    assert math.log(pulls[1] / pulls[0], 1e-3) == pytest.approx(form.degree - 1, abs=1e-9)


def test_which_forms_still_pull_near_zero():
    """The figures in the documentation."""
    degrees = {name: form_of(name).degree for name in NAMES}
    assert {name for name, degree in degrees.items() if degree > 1} == {
        "hierarchical_squared_group_lasso",
        "exclusive_sparsity",
        "hierarchical_squared_exclusive",
    }
    assert {name for name, degree in degrees.items() if degree == 1} == {
        "group_lasso",
        "hierarchical_sqrt_exclusive",
        "hierarchical_squared_group_l12",
    }


@pytest.mark.parametrize("size", [0.0, 5e-324, 1e-310, 1e-200, 1e-12])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_and_fade_where_a_formula_has_no_derivative(name, size):
    """One kernel, then a whole channel, then everything is zero or next to it."""
    floor, ones = 1e-4, torch.ones(3, dtype=torch.float64)
    bound = gradient(name, torch.full_like(weights(), floor), ones, floor).abs().max()
    for chosen in (torch.arange(6) == 1, CHANNEL == 0, CHANNEL >= 0):
        w = torch.where(chosen[:, None], weights().sign() * size, weights())
        found = gradient(name, w, ones, floor)
        assert found.isfinite().all()
        if size == 0.0:
            assert not found[chosen].any()
        if chosen.all():
            assert found.abs().max() <= bound * (size / floor) * (1 + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_below_the_floor_the_pull_fades_linearly_or_faster(name):
    floor, ones = 1e-2, torch.ones(3, dtype=torch.float64)
    w = weights().sign() * floor
    at_floor, below = (gradient(name, w * t, ones, floor) for t in (1.0, 0.1))
    assert (below.abs() <= at_floor.abs() * 0.1 * (1 + 1e-9)).all()
    assert (below.sign() == w.sign()).all()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"name": "lasso"}, "name=lasso: must be fading, group_lasso, "),
        ({"axis": "channel"}, "axis=channel: must be feature, neuron or both"),
        ({"balance": 1.5}, "balance=1.5: must be at least 0 and at most 1"),
        ({"strength": -1e-3}, "strength=-0.001: must be at least 0"),
        ({"strength": math.nan}, "strength=nan: must be a finite number"),
        ({"ratio": math.inf}, "ratio=inf: must be a finite number"),
        ({"growth": -0.1}, "growth=-0.1: must be at least 0 and at most 1"),
        ({"floor": 0.0}, "floor=0: must be above 0"),
    ],
)
def test_impossible_settings_are_refused(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        RegularizerConfig(**settings)


def test_settings_are_plain_json():
    settings = asdict(RegularizerConfig(strength=1e-5))
    assert RegularizerConfig(**json.loads(json.dumps(settings))) == RegularizerConfig(strength=1e-5)


def test_the_ratio_grows_from_step_to_step():
    config = RegularizerConfig(ratio=2.0, growth=0.5)
    assert [config.ratio_at(step, 5) for step in range(5)] == pytest.approx(
        [1.2, 1.4, 1.6, 1.8, 2.0]
    )
    assert {RegularizerConfig(ratio=2.0, growth=0.0).ratio_at(step, 5) for step in range(5)} == {
        2.0
    }
