from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnslim.distill import classification_loss, distillation_loss
from nnslim.errors import ConfigError
from nnslim.settings.train import LossConfig


def softmax(logits):
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exps / exps.sum(axis=1, keepdims=True)


def oracle(student, teacher, labels, config):
    """The definition in float64, term by term, without logarithms of softmax tricks."""
    n, k = student.shape
    target = np.full((n, k), config.label_smoothing / k)
    target[np.arange(n), labels] += 1 - config.label_smoothing
    hard = -(target * np.log(softmax(student))).sum() / n
    if teacher is None:
        return hard
    p, q = softmax(teacher / config.temperature), softmax(student / config.temperature)
    soft = config.temperature**2 * (p * np.log(p / q)).sum() / n
    return (1 - config.distill_weight) * hard + config.distill_weight * soft


def test_distillation_by_hand():
    # Softened at T = 2: teacher (3/4, 1/4), student (1/2, 1/2); KL = ln 2 - H(3/4), times 4.
    teacher = torch.tensor([[2 * np.log(3.0), 0.0]])
    expected = 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    loss = distillation_loss(torch.zeros(1, 2), teacher, temperature=2.0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_distillation_is_averaged_over_images_not_classes():
    student, teacher = torch.randn(1, 5), torch.randn(1, 5)
    once = distillation_loss(student, teacher, 3.0)
    repeated = distillation_loss(student.repeat(4, 1), teacher.repeat(4, 1), 3.0)
    torch.testing.assert_close(once, repeated)


@given(
    seed=st.integers(0, 2**16),
    smoothing=st.floats(0, 0.9),
    weight=st.floats(0, 1),
    temperature=st.floats(0.5, 20),
    taught=st.booleans(),
)
def test_classification_loss_equals_numpy(seed, smoothing, weight, temperature, taught):
    config = LossConfig(smoothing, weight, temperature)
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(2, 4, 6)) * 3
    labels = rng.integers(6, size=4)
    loss = classification_loss(
        torch.from_numpy(student),
        torch.from_numpy(labels),
        torch.from_numpy(teacher) if taught else None,
        config,
    )
    assert loss.item() == pytest.approx(
        oracle(student, teacher if taught else None, labels, config), rel=1e-9, abs=1e-12
    )


def test_gradient_size_does_not_depend_on_temperature():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 8, 10, dtype=torch.float64, generator=generator)
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    for temperature in (100.0, 1000.0):
        leaf = student.clone().requires_grad_()
        distillation_loss(leaf, teacher, temperature).backward()
        torch.testing.assert_close(leaf.grad, centred / 80, rtol=0, atol=5 / temperature / 80)


def test_no_gradient_reaches_the_teacher():
    teacher = torch.randn(3, 4, requires_grad=True)
    distillation_loss(torch.randn(3, 4, requires_grad=True), teacher, 4.0).backward()
    assert teacher.grad is None


def test_half_precision_logits_give_a_float32_loss():
    logits = torch.tensor([[300.0, 0.0]], dtype=torch.bfloat16)
    loss = classification_loss(logits, torch.tensor([1]), logits, LossConfig(0, 0.5, 1.0))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(150.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label_smoothing": 1.0}, "training.label_smoothing.1: must be at least 0 and below 1"),
        ({"distill_weight": 1.5}, "training.distill_weight.1.5: must be at least 0 and at most 1"),
        ({"temperature": 0.0}, "training.temperature.0: must be above 0"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        LossConfig(**values)


def test_teacher_with_other_classes_is_refused():
    with pytest.raises(ConfigError, match=r"\(2, 10\) and \(2, 100\)"):
        distillation_loss(torch.zeros(2, 10), torch.zeros(2, 100), 4.0)
