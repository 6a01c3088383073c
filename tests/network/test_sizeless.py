"""The fast trace gives the graph of the symbolic one, or stands back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from nnslim.network import trace, trace_network
from nnslim.network.sizeless import sizeless_program


class _Does(nn.Module):
    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(self.conv(x))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "regnet_y_400mf"])
def test_both_traces_are_one_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = torchvision.models.get_model(name, weights=None), torch.zeros(2, 3, 64, 64)
    assert sizeless_program(model.eval(), (images,)) is not None
    fast = trace_network(model, images)
    monkeypatch.setattr(trace, "sizeless_program", lambda *_: None)
    symbolic = trace_network(model, images)
    assert fast.graph == symbolic.graph
    assert list(fast.state_dict()) == list(symbolic.state_dict())


def _branch(x: Tensor) -> Tensor:
    return x.relu() if len(x) > 100 else x.tanh()


def _taken_apart(x: Tensor) -> Tensor:
    return torch.stack([sample.relu() for sample in x])


@pytest.mark.parametrize(
    "what",
    [
        _branch,
        _taken_apart,
        lambda x: x.relu() if x.shape[0] > 100 else x.tanh(),
        lambda x: x.relu() if x.size(0) > 100 else x.tanh(),
        lambda x: x.relu() if x.numel() > 100_000 else x.tanh(),
        lambda x: x.relu() if x.stride(1) == 36 else x.tanh(),
        lambda x: x.relu() if x.flatten(0, 1).size(-1) > 100 else x.tanh(),
        lambda x: torch.stack(torch.unbind(x)),
        lambda x: torch.cat([part.relu() for part in x.chunk(2)]),
        lambda x: x.reshape(2, -1),
    ],
    ids=lambda what: what.__name__,
)
def test_a_model_that_may_depend_on_the_batch_is_left_to_the_other_trace(
    what: Callable[[Tensor], Tensor],
) -> None:
    assert sizeless_program(_Does(what).eval(), (torch.zeros(2, 3, 8, 8),)) is None


def test_a_library_beside_torch_is_the_models_code() -> None:
    model = torchvision.models.shufflenet_v2_x0_5(weights=None).eval()  # its shuffle reads sizes
    assert sizeless_program(model, (torch.zeros(2, 3, 64, 64),)) is None


def test_a_size_read_by_torch_itself_is_none_of_the_models() -> None:
    model = _Does(lambda x: nn.functional.adaptive_avg_pool2d(x, (None, 1)))
    program = sizeless_program(model.eval(), (torch.zeros(2, 3, 8, 8),))
    assert program is not None
