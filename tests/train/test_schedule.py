from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnslim.errors import ConfigError
from nnslim.train import TrainConfig, learning_rate


def rates(config, steps):
    return [learning_rate(step, steps, config) for step in range(steps)]


def torch_rates(make, steps, lr):
    """What one of torch's schedulers does, step by step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)
    result = []
    for step in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return result


def test_cosine_equals_torch():
    config = TrainConfig(lr=0.3, schedule="cosine", warmup_fraction=0.0)
    expected = torch_rates(
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40), 40, 0.3
    )
    assert rates(config, 40) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.55])
def test_one_cycle_equals_torch(fraction):
    config = TrainConfig(lr=0.3, schedule="one-cycle", warmup_fraction=fraction)
    expected = torch_rates(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 0.3, total_steps=40, pct_start=fraction, cycle_momentum=False
        ),
        40,
        0.3,
    )
    assert rates(config, 40) == pytest.approx(expected, rel=1e-9)


def test_cosine_with_warmup_closed_form():
    config = TrainConfig(lr=1.0, schedule="cosine", warmup_fraction=0.2)
    expected = [1 / 5, 2 / 5, 3 / 5, 4 / 5]
    expected += [(1 + math.cos(math.pi * s / 16)) / 2 for s in range(16)]
    assert rates(config, 20) == pytest.approx(expected, rel=1e-12)


@given(
    schedule=st.sampled_from(["cosine", "one-cycle"]),
    fraction=st.floats(0, 0.99),
    steps=st.integers(1, 50),
)
def test_rises_once_to_the_peak_and_falls(schedule, fraction, steps):
    values = rates(TrainConfig(lr=0.1, schedule=schedule, warmup_fraction=fraction), steps)
    peak = values.index(max(values))
    assert min(values) > 0
    assert max(values) <= 0.1 * (1 + 1e-12)
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": -1}, "training.epochs.-1: must be at least 0"),
        ({"lr": 0.0}, "training.lr.0: must be above 0"),
        ({"lr": float("nan")}, "training.lr.nan: must be a finite number"),
        ({"lr": 1e38}, r"training.lr.1e\+38: must be above 0 and at most 1e\+06"),
        ({"momentum": 1.0}, "training.momentum.1: must be at least 0 and below 1"),
        ({"momentum": 0.0}, "training.nesterov needs a training.momentum above 0"),
        ({"weight_decay": -1e-4}, "training.weight_decay.-0.0001: must be at least 0"),
        ({"schedule": "step"}, "training.schedule.step: must be cosine or one-cycle"),
        ({"warmup_fraction": 1.0}, "training.warmup_fraction.1: must be at least 0 and below 1"),
        ({"grad_clip": 0.0}, "training.grad_clip.0: must be above 0"),
        ({"precision": "fp8"}, "training.precision.fp8: must be fp32, bf16 or fp16"),
        ({"seed": -1}, "seed.-1: must be at least 0"),
        ({"label_smoothing": 2.0}, "training.label_smoothing.2: must be at least 0 and below 1"),
    ],
)
def test_config_refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**values)
