"""Two cuts composed are one cut of the first network, tensor by tensor."""

from __future__ import annotations

import pytest
import torch

from nnslim.channels import channel_groups
from nnslim.surgery import Edit, apply_edit, compose_edits
from tests.laws.made import random_edit
from tests.laws.zoo import EVERY, network_of


@EVERY
@pytest.mark.parametrize("seed", [1])
def test_composed_cut_equals_successive_cuts(name, seed):
    network = network_of(name)
    steps, current, channels = [], network, None
    for step in range(3):
        channels = channel_groups(current, earlier=channels)
        edit = random_edit(channels, 10 * seed + step, least=2)
        steps.append((channels, edit))
        current = apply_edit(current, edit, channels)
    composed = compose_edits(steps)
    once = apply_edit(network, composed, steps[0][0])
    assert composed.keep
    assert once.graph.nodes == current.graph.nodes
    for key, tensor in current.tensors().items():
        assert torch.equal(once.tensor(key), tensor), key


def test_nothing_composed_is_nothing():
    assert compose_edits([]).keep == {}
    channels = channel_groups(network_of("Plain"))
    assert compose_edits([(channels, Edit({}))]).keep == {}
