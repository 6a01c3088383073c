"""The quick trace gives the graph that torch.export gives, or stands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import Tensor, nn

from nnslim.network import Network, trace, trace_network
from nnslim.network.graph import Arg, Graph, Ref, map_arg
from nnslim.network.quick import quick_trace


class _Does(nn.Module):
    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(self.conv(x))


def _both(
    model: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> tuple[Network, Network]:
    """The network as the quick trace and as torch.export see it, without lines of source."""
    found: list[Network] = []
    for function in (quick_trace, lambda *_: None):
        monkeypatch.setattr(trace, "quick_trace", function)
        network = trace_network(model, images)
        nodes = tuple(replace(node, source="") for node in network.graph.nodes)
        network.graph = network.graph.with_nodes(nodes)
        found.append(network)
    return found[0], found[1]


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v3_small", "squeezenet1_1", "regnet_y_400mf", "densenet121", "convnext_tiny"],
)
def test_both_traces_are_one_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = torchvision.models.get_model(name, weights=None), torch.zeros(2, 3, 64, 64)
    assert quick_trace(model.eval(), (images,), {}) is not None
    quick, exported = _both(model, images, monkeypatch)
    assert quick.graph == exported.graph
    assert list(quick.state_dict()) == list(exported.state_dict())
    assert quick.notes == exported.notes


class _Odd(nn.Module):
    """Tied weights, an unused layer, a module with two names, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, bias=False)
        self.c, self.unused = nn.Conv2d(4, 4, 1, bias=False), nn.Linear(2, 2)
        self.c.weight = self.b.weight
        self.again = nn.Sequential(self.b)
        self.norm = nn.BatchNorm2d(4, momentum=None)
        self.register_buffer("scale", torch.full((4, 1, 1), 2.0))

    def forward(self, input: Tensor) -> dict[str, object]:
        x = self.norm(self.norm(self.a(input)))
        with torch.no_grad():
            x = x * self.scale
        low, high = x.max(1)
        parts = x.chunk(2, 1)
        return {"a": self.c(self.b(torch.cat(parts[::-1], 1))), "b": [low, high, None], "c": 3}


def _numbered(graph: Graph) -> list[object]:
    """What a graph does, whatever its values are called and however its sizes are computed."""
    sizes = {node.name: node.value for node in graph.nodes if isinstance(node.value, int)}
    nodes = [node for node in graph.nodes if node.name not in sizes]
    known = sizes | {node.name: f"n{i}" for i, node in enumerate(nodes)}

    def renamed(arg: Arg) -> Arg:
        return map_arg(arg, lambda a: known.get(a.name, a) if isinstance(a, Ref) else a)

    return [(n.op, renamed(n.arguments), n.value, n.module) for n in nodes] + [
        renamed(graph.output)
    ]


def test_odd_models_are_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, exported = _both(_Odd(), torch.zeros(2, 3, 4, 4), monkeypatch)
    assert quick.graph.inputs == exported.graph.inputs
    assert _numbered(quick.graph) == _numbered(exported.graph)
    assert quick.state_dict().keys() == exported.state_dict().keys()
    assert quick.notes == exported.notes
    assert "unused" in quick.notes[0]


def test_the_module_stays_as_it_was() -> None:
    model = _Odd().eval()
    before = {name: (id(tensor), tensor.clone()) for name, tensor in model.state_dict().items()}
    own = {name: id(tensor) for name, tensor in model.named_parameters(remove_duplicate=False)}
    assert quick_trace(model, (torch.zeros(2, 3, 4, 4),), {}) is not None
    after = model.named_parameters(remove_duplicate=False)
    assert {name: id(tensor) for name, tensor in after} == own
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name][1])


def test_a_call_says_its_module_and_its_line() -> None:
    traced = quick_trace(_Does(torch.relu).eval(), (torch.zeros(2, 3, 8, 8),), {})
    assert traced is not None
    conv, relu = traced.graph.nodes
    assert (conv.module, relu.module) == ("conv", "")
    line = _Does.forward.__code__.co_firstlineno + 1
    assert conv.source == relu.source == f"network/test_quick.py:{line}"


def _with_own_tensor(x: Tensor) -> Tensor:
    return x * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(-1, 1, 1)


def _in_autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x.relu()


class _Writes(nn.Module):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(4, 1, 1))
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        if self.what == "input":
            return x.relu_()
        self.get_buffer("count")[:2].add_(1)
        return x + self.get_buffer("count")


@pytest.mark.parametrize("what", ["input", "buffer"])
def test_writing_to_what_was_given_is_left_to_the_other_trace(what: str) -> None:
    assert quick_trace(_Writes(what).eval(), (torch.zeros(2, 4, 3, 3),), {}) is None


def _branch(x: Tensor) -> Tensor:
    return x.relu() if len(x) > 100 else x.tanh()


def _taken_apart(x: Tensor) -> Tensor:
    return torch.stack([sample.relu() for sample in x])


@pytest.mark.parametrize(
    "what",
    [
        _branch,
        _taken_apart,
        _with_own_tensor,
        _in_autocast,
        lambda x: x.relu() if x.shape[0] > 100 else x.tanh(),
        lambda x: x.relu() if x.size(0) > 100 else x.tanh(),
        lambda x: x.relu() if x.numel() > 100_000 else x.tanh(),
        lambda x: x.relu() if x.stride(0) == x.size(0) else x.tanh(),
        lambda x: x.relu() if x.transpose(0, 1).contiguous().stride(0) > 36 else x.tanh(),
        lambda x: x.relu() if x.flatten(0, 1).size(0) > 100 else x.tanh(),
        lambda x: torch.stack(torch.unbind(x)),
        lambda x: torch.cat([part.relu() for part in x.chunk(2)]),
        lambda x: x.reshape(x.size(0) // 5, -1),
        lambda x: torch.cat([x[i : i + 1] for i in range(x.size(0))]),
        lambda x: torch.cat([x[:1]] * x.size(0)),
    ],
    ids=lambda what: what.__name__,
)
def test_what_may_differ_is_left_to_the_other_trace(
    what: Callable[[Tensor], Tensor],
) -> None:
    assert quick_trace(_Does(what).eval(), (torch.zeros(2, 3, 8, 8),), {}) is None


@pytest.mark.parametrize(
    "what",
    [
        lambda x: x / x.size(0),
        lambda x: x.reshape(x.size(0) * 2, -1).sum(1).view(x.shape[0], 2),
        lambda x: x.view(x.numel() // 4, 4).view(x.shape),
        lambda x: x.new_ones(x.shape[:2]) * x.mean((2, 3)) if x.size(0) > 0 else x,
        lambda x: x.transpose(0, 1).flatten(1).view(4, len(x[0, 0]), -1).permute(2, 0, 1),
        lambda x: x.relu() if x.size(0) % 1 == 0 and x.shape == x.relu().shape else x.tanh(),
        lambda x: x.relu() if x.stride(1) == 36 else x.tanh(),
        lambda x: torch.stack(x.transpose(0, 1).unbind(), 1),
    ],
)
def test_sizes_that_come_from_the_batch_hold_for_every_batch(
    what: Callable[[Tensor], Tensor],
) -> None:
    model, example = _Does(what).eval(), torch.zeros(2, 3, 8, 8)
    assert quick_trace(model, (example,), {}) is not None
    network = trace_network(model, example)
    for batch in (1, 2, 3, 7):
        images = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(network(images), model(images))


def test_a_shuffle_is_the_same_but_for_how_sizes_are_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, images = torchvision.models.shufflenet_v2_x0_5(weights=None), torch.zeros(2, 3, 64, 64)
    assert quick_trace(model.eval(), (images,), {}) is not None
    quick, exported = _both(model, images, monkeypatch)
    assert _numbered(quick.graph) == _numbered(exported.graph)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_attention_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    model, images = torchvision.models.get_model(name, weights=None), torch.randn(3, 3, 224, 224)
    assert quick_trace(model.eval(), (images,), {}) is not None
    network = trace_network(model, images[:2])
    # Sizes that come from the batch are computed as they are met: in the model's code, not in ours.
    assert not any(node.source.startswith("network/") for node in network.graph.nodes)
    with torch.no_grad():
        torch.testing.assert_close(network(images), model(images))


def test_a_size_read_by_torch_itself_is_none_of_the_models() -> None:
    model = _Does(lambda x: nn.functional.adaptive_avg_pool2d(x, (None, 1)))
    assert quick_trace(model.eval(), (torch.zeros(2, 3, 8, 8),), {}) is not None


def test_a_broken_recorder_is_noted_and_the_other_trace_does_it(monkeypatch: pytest.MonkeyPatch):
    """The recorder stands on private parts of torch: the day they change must be seen."""

    def gone(*_: object) -> None:
        raise AttributeError("module 'torch._C' has no attribute '_EnablePreDispatch'")

    model, images = _Does(torch.relu), torch.zeros(2, 3, 8, 8)
    assert trace_network(model, images).notes == ()
    monkeypatch.setattr(torch._C, "_EnablePreDispatch", gone)
    network = trace_network(model, images)
    (note,) = network.notes
    assert "traced by torch.export, which is slower: the quick trace failed, AttributeError" in note
    assert torch.equal(network(images), model.eval()(images))
