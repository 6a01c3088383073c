"""All hand-made nets, traced once."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from nnslim.network import Network, trace_network
from tests.laws.blocks import Case
from tests.laws.made import move_statistics
from tests.laws.nets import PLAIN
from tests.laws.nets_attention import ATTENTION
from tests.laws.nets_joining import JOINING
from tests.laws.nets_norms import NORMS
from tests.laws.nets_odd import ODD
from tests.laws.nets_peers import PEERS
from tests.laws.nets_published import PUBLISHED
from tests.laws.nets_reshaping import RESHAPING

__all__ = ["EVERY", "NETS", "module_of", "network_of"]

NETS: dict[str, Case] = {
    **PLAIN,
    **JOINING,
    **PUBLISHED,
    **RESHAPING,
    **ODD,
    **ATTENTION,
    **NORMS,
    **PEERS,
}
EVERY = pytest.mark.parametrize("name", NETS)


@functools.cache
def module_of(name: str) -> nn.Module:
    """The net with its own seed and moved statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(sum(name.encode()))
        return move_statistics(NETS[name].make())


@functools.cache
def network_of(name: str) -> Network:
    """The traced net; tests must not change it."""
    return trace_network(module_of(name), *(torch.randn(2, *s) for s in NETS[name].shapes))
