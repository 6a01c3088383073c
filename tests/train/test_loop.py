from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from nnslim.errors import ConfigError, DeviceError, InputError, NnslimError
from nnslim.train import Callbacks, TrainConfig, fit, learning_rate
from tests.train.toys import (
    CPU,
    Batches,
    Ridge,
    assert_same_bits,
    separable_batches,
    state_of,
    toy_net,
)

SHORT = TrainConfig(epochs=2, lr=0.05)


def plain_loop(network, batches, config):
    """The textbook loop with torch's own SGD, which ``fit`` must agree with bit for bit."""
    named = list(network.named_parameters())
    groups = [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=config.momentum, nesterov=config.nesterov)
    total = config.epochs * len(batches)
    network.train()
    for step in range(total):
        images, labels = batches[step % len(batches)]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, total, config)
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels, label_smoothing=config.label_smoothing).backward()
        if config.grad_clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
        optimizer.step()


@pytest.mark.parametrize("grad_clip", [None, 0.05])
def test_equals_the_textbook_loop(grad_clip):
    config = TrainConfig(epochs=3, lr=0.1, label_smoothing=0.1, grad_clip=grad_clip)
    ours = toy_net(dropout=0.0)
    expected = copy.deepcopy(ours)
    fit(ours, separable_batches(), config, device=CPU)
    plain_loop(expected, separable_batches(), config)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_learns_a_separable_set():
    network = toy_net(dropout=0.1)
    loader = separable_batches()
    result = fit(network, loader, TrainConfig(epochs=8, lr=0.1), device=CPU)
    losses = [record.loss for record in result.history]
    assert losses[-1] < 0.3 * losses[0]
    assert result.history[-1].train_top1 > 95
    assert loader.epochs == list(range(8))
    assert [record.epoch for record in result.history] == list(range(1, 9))


def test_the_record_is_what_happened():
    config = TrainConfig(epochs=2, lr=0.05, weight_decay=0.0)
    seen = []

    def evaluate(network):
        assert not network.training
        assert not torch.is_grad_enabled()
        seen.append(1)
        return 42.5

    events = []
    loader = separable_batches(n_batches=3)
    result = fit(
        toy_net(),
        loader,
        config,
        device=CPU,
        callbacks=Callbacks(evaluate, events.append),
    )
    steps = [event for event in events if event.kind == "step"]
    epochs = [event for event in events if event.kind == "epoch"]
    assert [(e.epoch, e.step) for e in steps] == [(e, s) for e in (1, 2) for s in (1, 2, 3)]
    assert [e.lr for e in steps] == [learning_rate(s, 6, config) for s in range(6)]
    assert [e.record for e in epochs] == list(result.history)
    first = result.history[0]
    assert first.loss == pytest.approx(sum(e.loss for e in steps[:3]) / 3)
    assert first.lr == steps[2].lr
    assert first.val_top1 == 42.5
    assert len(seen) == 2


def test_no_epochs_change_nothing():
    network = toy_net()
    before = state_of(network)
    result = fit(network, separable_batches(), TrainConfig(epochs=0), device=CPU)
    assert (result.epochs, result.history) == (0, ())
    assert_same_bits(before, state_of(network))


def test_teacher_is_unchanged_and_its_mode_restored():
    teacher = toy_net(seed=1)
    teacher[1].eval()
    before, modes = state_of(teacher), [part.training for part in teacher.modules()]
    network = toy_net()
    fit(network, separable_batches(), SHORT, device=CPU, teacher=teacher)
    assert_same_bits(before, state_of(teacher))
    assert [part.training for part in teacher.modules()] == modes
    assert all(p.grad is None for p in (*teacher.parameters(), *network.parameters()))


class Fixed(nn.Module):
    """A teacher that answers the same for every image."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        assert not self.training
        return self.logits.expand(len(images), -1)


def test_the_student_follows_the_teacher_where_the_labels_do_not_count():
    config = TrainConfig(epochs=6, lr=0.1, distill_weight=1.0, temperature=2.0, weight_decay=0.0)
    network, teacher = toy_net(dropout=0.0), Fixed([0.0, 5.0, 0.0])
    fit(network, separable_batches(), config, device=CPU, teacher=teacher)
    images, _ = separable_batches()[0]
    assert (network.eval()(images).argmax(1) == 1).all()


def test_a_teacher_without_weight_is_not_run():
    teacher = Fixed([0.0, 0.0, 0.0])
    config = TrainConfig(epochs=1, distill_weight=0.0)
    fit(toy_net(), separable_batches(), config, device=CPU, teacher=teacher)
    assert teacher.calls == 0


def test_a_gradient_penalty_adds_to_every_step_before_clipping():
    config = TrainConfig(epochs=2, lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)
    batches = separable_batches(n_batches=2)
    network = toy_net(dropout=0.0)
    expected = copy.deepcopy(network)
    ridge = Ridge(3.0)
    fit(network, batches, config, device=CPU, gradient_penalty=ridge)
    expected.train()
    for step in range(4):
        images, labels = batches[step % 2]
        expected.zero_grad()
        penalised = 1.5 * expected[0].weight.square().sum()
        (F.cross_entropy(expected(images), labels) + penalised).backward()
        with torch.no_grad():
            for parameter in expected.parameters():
                parameter.sub_(learning_rate(step, 4, config) * parameter.grad)
    assert ridge.seen == [("epoch", 0, 2), (0, 4), (1, 4), ("epoch", 1, 2), (2, 4), (3, 4)]
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(
            network.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name
        )


def test_the_penalty_sees_the_loss_gradients_and_clipping_sees_both():
    config = TrainConfig(epochs=1, lr=1.0, momentum=0.0, nesterov=False, weight_decay=0.0)
    config = replace(config, grad_clip=1e-3, warmup_fraction=0.0)
    batch = Batches(separable_batches(n_batches=1))
    network = toy_net()
    before = state_of(network)
    ridge = Ridge(1e6)
    fit(network, batch, config, device=CPU, gradient_penalty=ridge)
    moved = [p.detach() - before[name] for name, p in network.named_parameters()]
    assert nn.utils.get_total_norm(moved).item() == pytest.approx(1e-3, rel=1e-2)
    assert 0 < ridge.norm < 100


def test_modes_and_random_state_are_given_back_and_tensors_contiguous():
    network = toy_net().eval()
    state = torch.random.get_rng_state()
    fit(network, separable_batches(), SHORT, device=CPU)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(part.training for part in network.modules())
    assert all(tensor.is_contiguous() for tensor in network.state_dict().values())


def test_the_result_does_not_depend_on_the_random_state_before():
    first, second = toy_net(), toy_net()
    torch.manual_seed(1)
    fit(first, separable_batches(), SHORT, device=CPU)
    torch.manual_seed(2)
    fit(second, separable_batches(), SHORT, device=CPU)
    assert_same_bits(state_of(first), state_of(second))
    third = toy_net()
    fit(third, separable_batches(), TrainConfig(epochs=2, lr=0.05, seed=1), device=CPU)
    assert not torch.equal(third[0].weight, first[0].weight)


def test_gradients_left_by_the_caller_do_not_count():
    clean, used = toy_net(), toy_net()
    for parameter in used.parameters():
        parameter.grad = torch.ones_like(parameter)
    fit(clean, separable_batches(), SHORT, device=CPU)
    fit(used, separable_batches(), SHORT, device=CPU)
    assert_same_bits(state_of(clean), state_of(used))


def test_dropout_differs_from_epoch_to_epoch():
    network, masks = toy_net(dropout=0.5), []
    network[3].register_forward_hook(lambda _, args, out: masks.append(out != 0))
    batch = Batches(separable_batches(n_batches=1))
    fit(network, batch, TrainConfig(epochs=2, lr=1e-9), device=CPU)
    assert not torch.equal(*masks)


def test_a_loss_that_is_not_finite_stops_with_its_place():
    batches = separable_batches(n_batches=3)
    poisoned = Batches(batches)

    def set_epoch(epoch):
        if epoch == 1:
            poisoned[1] = (batches[1][0] * math.nan, batches[1][1])

    poisoned.set_epoch = set_epoch
    network = toy_net().eval()
    rate = learning_rate(4, 6, SHORT)
    with pytest.raises(NnslimError) as caught:
        fit(network, poisoned, SHORT, device=CPU)
    assert f"nan at epoch 2, step 2 of 3 (learning rate {rate:.3g})" in str(caught.value)
    assert not network.training


def test_weights_that_are_not_finite_after_the_last_step_stop_it():
    config = TrainConfig(epochs=1, lr=0.1, weight_decay=0.0)

    class Spoil(Ridge):
        def add_(self, network, step, steps):
            network[9].bias.grad[0] = math.nan

    batch = Batches(separable_batches(n_batches=1))
    with pytest.raises(NnslimError, match=r"9\.bias is not finite after epoch 1"):
        fit(toy_net(), batch, config, device=CPU, gradient_penalty=Spoil(0.0))


def test_bf16_trains_and_leaves_float32_weights():
    network = toy_net()
    config = TrainConfig(epochs=4, lr=0.1, precision="bf16")
    seen = []
    network[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    result = fit(network, separable_batches(), config, device=CPU)
    assert set(seen) == {torch.bfloat16}
    assert result.history[-1].loss < result.history[0].loss
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_an_accelerator_of_the_caller_survives():
    mine = Accelerator(cpu=True, mixed_precision="bf16")
    fit(toy_net(), separable_batches(), SHORT, device=CPU)
    assert mine.mixed_precision == "bf16"
    assert Accelerator(cpu=True).mixed_precision == "bf16"


class Slow(Batches):
    """Counts one batch less or more than it has."""

    def __init__(self, batches, surplus):
        super().__init__(batches)
        self.surplus = surplus

    def __len__(self):
        return super().__len__() - self.surplus


@pytest.mark.parametrize(
    ("surplus", "message"),
    [(1, "gives more batches than its length, 3"), (-1, "gave 4 batches, its length says 5")],
)
def test_a_loader_that_miscounts_is_refused(surplus, message):
    with pytest.raises(InputError, match=message):
        fit(toy_net(), Slow(separable_batches(), surplus), SHORT, device=CPU)


def test_what_cannot_be_trained_is_refused():
    network = toy_net()
    with pytest.raises(InputError, match="no training batches"):
        fit(network, Batches([]), SHORT, device=CPU)
    with pytest.raises(ConfigError, match="teach itself"):
        fit(network, separable_batches(), SHORT, device=CPU, teacher=network)
    with pytest.raises(ConfigError, match="fp16 training does not run on the CPU"):
        fit(network, separable_batches(), TrainConfig(precision="fp16"), device=CPU)
    with pytest.raises(DeviceError, match="cuda:99 was asked for"):
        fit(network, separable_batches(), SHORT, device=torch.device("cuda:99"))
    network.requires_grad_(requires_grad=False)
    with pytest.raises(ConfigError, match="no trainable parameters"):
        fit(network, separable_batches(), SHORT, device=CPU)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_trains_on_a_gpu(precision):
    network = toy_net()
    config = TrainConfig(epochs=8, lr=0.1, precision=precision)
    result = fit(network, separable_batches(), config, device=torch.device("cuda"))
    assert result.history[-1].loss < 0.5 * result.history[0].loss
    assert {p.device.type for p in network.parameters()} == {"cuda"}
