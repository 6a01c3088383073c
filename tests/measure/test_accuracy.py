from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nnslim.errors import InputError
from nnslim.measure.accuracy import network_accuracy, onnx_accuracy, top_k_accuracy
from nnslim.onnx import open_session
from nnslim.settings.session import SessionSettings


def stream(logits, labels, size):
    for start in range(0, len(labels), size):
        yield logits[start : start + size], labels[start : start + size]


@given(st.integers(2, 12), st.integers(1, 40), st.integers(1, 7), st.integers(0, 2**31))
def test_equals_a_stable_sort_whatever_the_batches(n_classes, n, size, seed):
    generator = np.random.default_rng(seed)
    logits = generator.integers(-2, 3, (n, n_classes)).astype(np.float32)  # full of ties
    labels = generator.integers(0, n_classes, n)
    order = np.argsort(-logits, axis=1, kind="stable")
    found = top_k_accuracy(stream(logits, labels, size), n_classes)
    np.testing.assert_array_equal(found.correct, order[:, 0] == labels)
    np.testing.assert_array_equal(found.correct, logits.argmax(axis=1) == labels)
    assert found.top1_pct == pytest.approx(100 * (order[:, 0] == labels).mean())
    if n_classes > 5:
        assert found.top5_pct == pytest.approx(
            100 * (order[:, :5] == labels[:, None]).any(axis=1).mean()
        )
    else:
        assert found.top5_pct is None
    wanted = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels))
    assert found.loss == pytest.approx(float(wanted), rel=1e-5, abs=1e-6)
    assert found.n == n


def test_constant_logits_are_right_for_one_class_only():
    labels = np.arange(10)
    found = top_k_accuracy([(np.zeros((10, 10)), labels)])
    assert (found.top1_pct, found.top5_pct) == (10.0, 50.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_wrong_and_counted(bad):
    logits = np.eye(6)[[0, 1, 2, 3]]
    logits[1, 1] = bad
    logits[2, 5] = bad
    found = top_k_accuracy([(logits, np.arange(4))])
    assert found.correct.tolist() == [True, False, False, True]
    assert (found.top1_pct, found.top5_pct, found.n_not_finite) == (50.0, 50.0, 2)
    assert found.loss is None
    assert found.warnings == ("2 of 4 images have NaN or infinite logits: wrong",)


@pytest.mark.parametrize("n_classes", [9, 11, 1000])
def test_other_number_of_classes(n_classes):
    with pytest.raises(InputError, match=f"has 10 classes, the data {n_classes} classes"):
        top_k_accuracy([(np.zeros((2, 10)), np.array([0, 1]))], n_classes)


def test_label_beyond_the_logits_and_no_images():
    with pytest.raises(InputError, match="has 3 classes, the data a label 3"):
        top_k_accuracy([(np.zeros((2, 3)), np.array([0, 3]))])
    with pytest.raises(InputError, match="no images"):
        top_k_accuracy([])
    with pytest.raises(InputError, match=r"2 images gave logits of shape \(3, 4\)"):
        top_k_accuracy([(np.zeros((3, 4)), np.array([0, 3]))])


def batches(n, size):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 8, 8, generator=generator)
    labels = torch.randint(0, 10, (n,), generator=generator)
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, n, size)]


@pytest.mark.parametrize(("fixed", "size"), [(None, 7), (4, 4), (4, 7), (5, 3), (64, 10)])
def test_file_and_network_agree_whatever_the_fixed_batch(onnx_path, net, fixed, size):
    session = open_session(onnx_path, SessionSettings(device="cpu", batch=fixed, threads=1))
    file = onnx_accuracy(session, batches(33, size), 10)
    network = network_accuracy(net, batches(33, size), n_classes=10)
    np.testing.assert_array_equal(file.correct, network.correct)
    assert 0 < file.correct.sum() < 33
    assert file.loss == pytest.approx(network.loss, rel=1e-4)
    assert file.n == 33


def test_network_modes_come_back_and_are_eval_meanwhile():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append((self.training, torch.is_grad_enabled()))
            return torch.zeros(len(x), 10)

    net = nn.Sequential(Spy(), nn.Identity()).train()
    net[1].eval()
    network_accuracy(net, batches(4, 2))
    assert seen == [(False, False)] * 2
    assert [module.training for module in net.modules()] == [True, True, False]
    with pytest.raises(InputError):
        network_accuracy(net, batches(4, 2), n_classes=3)
    assert [module.training for module in net.modules()] == [True, True, False]
