from __future__ import annotations

import pytest
import torch
from torch import nn

from nnslim.errors import InputError, NnslimError
from nnslim.network import trace_network
from nnslim.train import recalibrate_batchnorm
from tests.train.toys import assert_same_bits, state_of, toy_net


def batches(sizes=(8, 8, 3), seed=3, channels=2):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, channels, 6, 6, generator=generator) * 3 + 1, torch.zeros(n).long())
        for n in sizes
    ]


def spoiled(network):
    """Old statistics far from the truth: any trace of them would show."""
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(50, 60)
        elif name.endswith("running_var"):
            buffer.uniform_(200, 300)
    return network


def oracle(network, data):
    """Statistics of the toy net's two layers in float64, from hooks on eager modules."""
    network = toy_net_copy(network).double().train()
    network[3].eval()
    inputs = {1: [], 5: []}
    for index, seen in inputs.items():
        network[index].register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
    for images, _ in data:
        network(images.double())
    result = {}
    for index, seen in inputs.items():
        n = torch.tensor([len(x) for x in seen], dtype=torch.float64)[:, None]
        flat = [x.transpose(0, 1).flatten(1) for x in seen]
        means = torch.stack([x.mean(1) for x in flat])
        variances = torch.stack([x.var(1, unbiased=True) for x in flat])
        result[f"{index}.running_mean"] = (means * n).sum(0) / n.sum()
        result[f"{index}.running_var"] = (variances * n).sum(0) / n.sum()
    return result


def toy_net_copy(network):
    copy = toy_net()
    copy.load_state_dict(network.state_dict())
    return copy


MOMENTA = [0.1, 0.01, 0.003, 1.0]


# A trace in eval mode cannot express momentum None.
@pytest.mark.parametrize(
    ("momentum", "traced"), [(m, t) for m in MOMENTA for t in (False, True)] + [(None, False)]
)
def test_equals_float64_statistics(momentum, traced):
    plain = spoiled(toy_net(dropout=0.0 if traced else 0.9))
    for index in (1, 5):
        plain[index].momentum = momentum
    expected = oracle(plain, batches())
    network = trace_network(plain.eval(), torch.zeros(2, 2, 6, 6)) if traced else plain
    report = recalibrate_batchnorm(network, batches(), max_batches=10)
    assert (report.batches, report.images, report.skipped) == (3, 19, ())
    assert report.layers == ("1", "5")
    for name, value in expected.items():
        torch.testing.assert_close(
            network.get_buffer(name).double(), value, rtol=2e-5, atol=2e-5, msg=name
        )


def test_first_layer_mean_is_the_mean_of_all_images():
    network = nn.Sequential(nn.BatchNorm2d(2))
    data = batches(sizes=(9, 2))
    recalibrate_batchnorm(network, data, max_batches=2)
    images = torch.cat([images for images, _ in data])
    torch.testing.assert_close(network[0].running_mean, images.mean((0, 2, 3)))


def test_uses_no_more_than_max_batches():
    network, other = toy_net(), toy_net()
    assert recalibrate_batchnorm(network, batches(), max_batches=2).batches == 2
    recalibrate_batchnorm(other, batches()[:2], max_batches=9)
    assert_same_bits(state_of(network), state_of(other))
    assert int(network[1].num_batches_tracked) == 2


def test_touches_only_statistics_and_restores_modes_and_random_state():
    network = toy_net()
    network[5].eval()
    modes = [part.training for part in network.modules()]
    before, random_state = state_of(network), torch.random.get_rng_state()
    recalibrate_batchnorm(network, batches(), max_batches=3)
    assert [part.training for part in network.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random_state)
    changed = {name for name, value in state_of(network).items() if not before[name].equal(value)}
    names = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"{index}.{name}" for index in (1, 5) for name in names}


def test_twice_is_once():
    network = toy_net()
    recalibrate_batchnorm(network, batches(), max_batches=3)
    once = state_of(network)
    recalibrate_batchnorm(network, batches(), max_batches=3)
    assert_same_bits(once, state_of(network))


class Shared(nn.Module):
    """One batch norm used twice, and one never: no momentum by name would explain its buffers."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.unused = nn.BatchNorm2d(2)

    def forward(self, images):
        return self.norm(self.norm(images) * 3 + 5)


def test_layer_used_twice_averages_its_uses_as_training_weighs_them():
    network = Shared()
    unused = state_of(network.unused)
    data = batches(sizes=(8,))
    report = recalibrate_batchnorm(network, data, max_batches=1)
    assert report.skipped == ("unused",)
    assert_same_bits(unused, state_of(network.unused))
    first = data[0][0].mean((0, 2, 3))
    expected = (0.9 * first + 5.0) / 1.9
    torch.testing.assert_close(network.norm.running_mean, expected)


def test_momentum_zero_is_reported_and_left_alone():
    network = toy_net()
    network[5].momentum = 0.0
    before = state_of(network[5])
    report = recalibrate_batchnorm(network, batches(), max_batches=3)
    assert (report.layers, report.skipped) == (("1",), ("5",))
    assert_same_bits(before, state_of(network[5]))


def test_statistics_that_are_not_finite_change_nothing():
    network = toy_net()
    before = state_of(network)
    bad = batches()
    bad[1][0][0] = float("inf")
    with pytest.raises(NnslimError, match="batch norm 1: statistics over 19 images"):
        recalibrate_batchnorm(network, bad, max_batches=3)
    assert_same_bits(before, state_of(network))


def test_an_interrupt_changes_nothing():
    def interrupted():
        yield from batches()[:2]
        raise KeyboardInterrupt

    network = toy_net()
    before = state_of(network)
    with pytest.raises(KeyboardInterrupt):
        recalibrate_batchnorm(network, interrupted(), max_batches=5)
    assert_same_bits(before, state_of(network))


def test_no_batches_is_an_error_and_no_batch_norm_is_not():
    with pytest.raises(InputError, match="no batches"):
        recalibrate_batchnorm(toy_net(), [], max_batches=3)
    assert recalibrate_batchnorm(nn.Conv2d(2, 2, 1), batches(), max_batches=3).layers == ()
