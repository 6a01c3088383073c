"""A traced network is the model it came from, bit for bit, and lives without it."""

from __future__ import annotations

import copy
import gc
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from nnslim.errors import InputError, UnsupportedModelError
from nnslim.network import Network, TensorRef, trace_network
from tests.network.nets import (
    NETS,
    SHAPE,
    assert_same,
    images,
    make,
    network_of,
    randomise,
    traced,
)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters()}


def statistics(module: nn.Module) -> dict[str, Tensor]:
    return {n: t for n, t in module.named_buffers() if n.endswith(("running_mean", "running_var"))}


def ops(network: Network) -> list[str]:
    return [node.op for node in network.graph.nodes]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_evaluation_is_bit_equal(name, batch):
    assert_same(traced(name)(images(batch)), make(name)(images(batch)))


@pytest.mark.parametrize("name", NETS)
def test_training_is_bit_equal(name):
    """Outputs, gradients, running statistics and weights after two steps of SGD with dropout."""
    runs = []
    for module in (traced(name).train(), make(name).train()):
        torch.manual_seed(5)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        seen = []
        for step in range(2):
            optimizer.zero_grad()
            logits = module(images(6, seed=step))
            F.cross_entropy(logits, torch.arange(6) % 4).backward()
            seen.append((logits.detach(), copy.deepcopy(gradients(module))))
            optimizer.step()
        runs.append((seen, dict(module.named_parameters()), statistics(module)))
    assert_same(runs[0], runs[1])
    before = make(name)
    assert not torch.equal(runs[0][1]["head.weight"], before.get_parameter("head.weight"))
    assert all(not torch.equal(t, before.get_buffer(n)) for n, t in runs[0][2].items())


def test_train_and_eval_switch_back_and_forth():
    network, x = traced("Plain"), images()
    first = network(x)
    assert not torch.equal(network.train()(x), first)
    network.load_state_dict(traced("Plain").state_dict())
    assert torch.equal(network.eval()(x), first)


@pytest.mark.parametrize("name", NETS)
def test_autocast_is_bit_equal(name):
    with torch.autocast("cpu", torch.bfloat16):
        logits = traced(name)(images())
        assert logits.dtype == torch.bfloat16
        assert_same(logits, make(name)(images()))


def test_autocast_around_a_trace_is_not_traced():
    outside = trace_network(make("Residual"), torch.zeros(2, *SHAPE))
    with torch.autocast("cpu", torch.bfloat16):
        inside = trace_network(make("Residual"), torch.zeros(2, *SHAPE))
    assert inside.graph == outside.graph


@pytest.mark.parametrize("name", NETS)
def test_double_is_bit_equal(name):
    logits = traced(name).double()(images().double())
    assert logits.dtype == torch.float64
    assert_same(logits, make(name).double()(images().double()))


@pytest.mark.parametrize("name", NETS)
def test_channels_last_is_bit_equal(name):
    x = images().contiguous(memory_format=torch.channels_last)
    network = traced(name).to(memory_format=torch.channels_last)
    assert_same(network(x), make(name).to(memory_format=torch.channels_last)(x))
    kept = copy.deepcopy(network)
    for tensor, other in zip(network.parameters(), kept.parameters(), strict=True):
        assert tensor.stride() == other.stride()


@pytest.mark.parametrize("training", [False, True])
def test_compiles_as_one_graph(training):
    network, x = traced("Residual").train(training), images()
    expected = copy.deepcopy(network)(x)
    torch.compiler.reset()
    assert_same(torch.compile(network, backend="eager", fullgraph=True)(x), expected)


def test_a_copy_shares_nothing_but_the_graph():
    network = traced("Plain").train()
    network.get_parameter("conv1.weight").requires_grad_(requires_grad=False)
    network.classes, network.history = ("a", "b", "c", "d"), ({"step": 1},)
    twin = copy.deepcopy(network)
    assert (twin.classes, twin.history, twin.training) == (network.classes, network.history, True)
    assert not twin.get_parameter("conv1.weight").requires_grad
    assert twin.graph is network.graph
    for name, tensor in network.tensors().items():
        assert twin.tensor(name).data_ptr() != tensor.data_ptr()
    before = {name: tensor.clone() for name, tensor in network.tensors().items()}
    with torch.no_grad():
        for tensor in twin.tensors().values():
            tensor.add_(1)
    assert_same(network.tensors(), before)


@pytest.mark.parametrize("name", NETS)
def test_tensors_have_the_names_and_the_order_of_the_source(name):
    network, source = traced(name), make(name)
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in source.named_parameters()]
    assert list(statistics(network)) == list(statistics(source))
    extra = set(network.state_dict()) - set(source.state_dict())
    assert all(name.startswith("nnslim_index.") for name in extra)


def test_tracing_leaves_the_source_as_it_was():
    model = make("Plain").train()
    model.bn1.eval()
    model.conv1.weight.requires_grad_(requires_grad=False)
    modes = {name: child.training for name, child in model.named_modules()}
    state = {name: (t.data_ptr(), t.clone()) for name, t in model.state_dict().items()}
    network = trace_network(model, torch.ones(2, *SHAPE))
    assert {name: child.training for name, child in model.named_modules()} == modes
    assert list(model.state_dict()) == list(state)
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == state[name][0]
        assert torch.equal(tensor, state[name][1])
    assert not network.training
    assert not network.get_parameter("conv1.weight").requires_grad
    shared = {t.data_ptr() for t in model.state_dict().values()}
    assert not shared & {t.data_ptr() for t in network.tensors().values()}


def test_a_failed_trace_leaves_the_source_as_it_was():
    model = nn.Sequential(Branch(), nn.Dropout()).train()
    with pytest.raises(UnsupportedModelError):
        trace_network(model, torch.zeros(2, *SHAPE))
    assert all(child.training for child in model.modules())


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_as_it_was(enabled):
    class Fails(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    before = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        trace_network(nn.Flatten(), torch.zeros(2, 3))
        assert gc.isenabled() is enabled
        with pytest.raises(UnsupportedModelError):
            trace_network(Fails(), torch.zeros(2, 3))
        assert gc.isenabled() is enabled
    finally:
        gc.enable() if before else gc.disable()


def test_nodes_name_module_and_source_line():
    node = next(n for n in traced("Residual").graph.nodes if n.op == "aten.pad.default")
    assert re.fullmatch(r"network/nets\.py:\d+", node.source)
    conv = next(n for n in traced("Residual").graph.nodes if n.op.startswith("aten.conv2d"))
    assert conv.module == "stem"
    assert conv.place == f"aten.conv2d.default (stem, {conv.source})"


def test_momentum_none_becomes_the_usual_momentum():
    """An eval trace shows 0 for "cumulative average": statistics would never move."""
    network = network_of(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=None)).train()
    before = network.tensor("1.running_mean").clone()
    network(images())
    assert not torch.equal(network.tensor("1.running_mean"), before)
    (node,) = (n for n in network.graph.nodes if n.op.startswith("aten.batch_norm"))
    assert node.args[6] == 0.1


def test_batch_norm_without_statistics_always_uses_the_batch():
    layers = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)
    network, source = network_of(*layers), nn.Sequential(*layers)
    for training in (False, True):
        assert_same(network.train(training)(images()), source.train(training)(images()))


class Standardised(nn.Module):
    """Weight standardisation: a batch_norm with training=True that is no layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        )

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, 4, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0).reshape_as(self.weight)
        return F.conv2d(x, weight).mean((2, 3))


def test_weight_standardisation_is_never_flipped():
    network, source = trace_network(Standardised(), torch.zeros(2, *SHAPE)), Standardised()
    node = next(n for n in network.graph.nodes if n.op.startswith("aten.batch_norm"))
    assert node.args[5] is True
    assert_same(network.eval()(images()), source(images()))
    assert_same(network.train()(images()), source(images()))
    assert all(step.training_position is None for step in network.program.steps)


class Blended(nn.Module):
    """Normalises with statistics that are computed, which no batch may overwrite."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]))
        self.register_buffer("var", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean * 0.5, self.var * 2.0).mean((2, 3))


def test_computed_statistics_are_never_flipped():
    network = trace_network(Blended(), torch.zeros(2, *SHAPE)).train()
    assert_same(network(images()), Blended()(images()))


class MonteCarlo(nn.Module):
    """Dropout that also acts in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x.mean((2, 3)), 0.5, training=True)


def test_dropout_that_is_always_on_stays_on():
    network = trace_network(MonteCarlo(), torch.zeros(2, *SHAPE)).eval()
    torch.manual_seed(3)
    logits = network(torch.ones(64, *SHAPE))
    torch.manual_seed(3)
    assert_same(logits, MonteCarlo().eval()(torch.ones(64, *SHAPE)))
    assert (logits == 0).any()


class Reshaped(nn.Module):
    """Writes the batch size of the example into the graph."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.head = nn.Linear(192, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1)).reshape(self.shape)


@pytest.mark.parametrize("shape", [(2, 4), (2, -1), (8,)])
def test_a_fixed_batch_is_refused(shape):
    with pytest.raises(UnsupportedModelError, match="the model fixes its batch size") as caught:
        trace_network(Reshaped(shape), torch.zeros(2, *SHAPE))
    assert "x.shape[0]" in str(caught.value.hint)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def test_a_branch_on_values_is_refused():
    with pytest.raises(
        UnsupportedModelError, match=r"torch\.export cannot trace the model"
    ) as caught:
        trace_network(Branch(), torch.zeros(2, *SHAPE))
    assert "\n" not in str(caught.value)
    assert "branches on tensor values" in str(caught.value.hint)


class Fourier(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x).abs().mean((2, 3))


def test_an_unknown_operator_is_named_with_its_place():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Fourier())
    with pytest.raises(
        UnsupportedModelError, match=r"fft_rfft.* \(1, network/test_trace\.py:\d+\)"
    ):
        trace_network(model, torch.zeros(2, *SHAPE))


class Spare(nn.Module):
    """One layer used, one that only training would use."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)
        self.aux = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean((2, 3)))


def test_unused_parameters_are_left_out_and_noted():
    network = trace_network(Spare(), torch.zeros(2, *SHAPE))
    assert list(network.state_dict()) == ["head.weight", "head.bias"]
    assert len(network.notes) == 1
    assert network.notes[0].startswith("2 parameters are not used in evaluation")
    assert "aux.weight, aux.bias" in network.notes[0]


def test_stochastic_depth_is_noted():
    network = network_of(nn.Conv2d(3, 4, 1), StochasticDepth(0.2, "row"))
    assert len(network.notes) == 1
    assert "1 StochasticDepth modules act only in training" in network.notes[0]
    assert not network_of(nn.Conv2d(3, 4, 1), StochasticDepth(0.0, "row")).notes


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.second = nn.Conv2d(3, 3, 1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x))).mean((2, 3))


def test_tied_weights_appear_once():
    network, source = trace_network(randomise(Tied()), torch.zeros(2, *SHAPE)), randomise(Tied())
    assert list(network.state_dict()) == ["first.weight"]
    assert network.n_parameters == 9
    used = [ref for node in network.graph.nodes for ref in node.args if isinstance(ref, TensorRef)]
    assert used == [TensorRef("first.weight")] * 2
    for module in (network, source):
        F.cross_entropy(module(images()), torch.zeros(4, dtype=torch.int64)).backward()
    assert_same(gradients(network), gradients(source))


def test_tied_weights_are_not_called_unused():
    assert trace_network(Tied(), torch.zeros(2, *SHAPE)).notes == ()


class Creates(nn.Module):
    """Makes a tensor where its input is."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.full((3, 1, 1), 0.5, device=x.device)).mean((2, 3))


def test_created_tensors_go_where_the_network_runs():
    network = trace_network(Creates(), torch.zeros(2, *SHAPE))
    assert_same(network(images()), Creates()(images()))
    assert network(images().to("meta")).device.type == "meta"


class TwoInputs(nn.Module):
    """Two inputs, and an output with structure."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor, mask: Tensor) -> dict[str, object]:
        y = self.conv(x)
        return {"logits": (y * mask).mean((2, 3)), "rest": (y, None)}


def test_several_inputs_and_structured_outputs():
    source, mask = TwoInputs(), torch.rand(4, 1, 8, 8)
    network = trace_network(source, torch.zeros(2, *SHAPE), torch.zeros(2, 1, 8, 8))
    assert_same(network(images(), mask), source(images(), mask))
    assert network.n_classes is None
    with pytest.raises(InputError, match="the network takes 2 inputs, got 1"):
        network(images())


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 3, 8, 9), (3, 8, 8), (4, 3, 8, 8, 1)])
def test_another_input_shape_is_refused(shape):
    with pytest.raises(InputError, match=re.escape(str(shape))) as caught:
        traced("Plain")(torch.zeros(shape))
    assert caught.value.hint == "this network takes (N, 3, 8, 8)"


def test_facts_about_a_network():
    network = traced("Plain")
    assert network.input_shape == SHAPE
    assert network.n_classes == 4
    assert network.n_parameters == sum(p.numel() for p in make("Plain").parameters())


class Lookup(nn.Module):
    """A channel shuffle written as views, and one that also moves pixels."""

    def __init__(self, *, pixels: bool) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        if self.pixels:
            return x.view(n, 2, 3, 8, 8).permute(0, 2, 1, 4, 3).reshape(n, 6, 8, 8)
        return x.view(n, 2, 3, 8, 8).transpose(1, 2).reshape(n, 6, 8, 8)


def test_channel_shuffle_becomes_an_index():
    network = trace_network(Lookup(pixels=False), torch.zeros(2, 6, 8, 8))
    assert ops(network) == ["aten.index_select.default"]
    (index,) = network.tensors().values()
    assert index.tolist() == [0, 3, 1, 4, 2, 5]


def test_other_permutations_stay_as_they_are():
    network = trace_network(Lookup(pixels=True), torch.zeros(2, 6, 8, 8))
    x = torch.randn(3, 6, 8, 8)
    assert "aten.index_select.default" not in ops(network)
    assert_same(network(x), Lookup(pixels=True)(x))
