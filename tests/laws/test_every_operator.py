"""Law 1 for every operator that has a rule: what no other net holds stands here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnslim.channels import channel_groups
from nnslim.channels.rules import DEFAULT_RULES
from nnslim.network import Network, operators
from nnslim.surgery import apply_edit, verify_cut
from tests.laws.alive import resolve
from tests.laws.blocks import Net, conv, conv_bn
from tests.laws.made import random_edit
from tests.laws.reference import check_law_1
from tests.laws.test_freezing import CUT, FREEZING, MIXING, Middle, traced
from tests.laws.zoo import NETS, network_of

ELEMENTWISE = sorted(operators.ELEMENTWISE)
# Of these no bit is promised, or torch.export never leaves them in a graph.
UNSEEN = {
    "aten.empty.memory_format",
    "aten.empty_like.default",
    "aten.detach.default",
    "aten.detach_.default",
}
# What a trace is rewritten from, see nnslim/network/canonical.py.
REWRITTEN = {"aten.view.default", "aten.squeeze.default", "aten.squeeze.dim"}
BOOLEAN = ("logical", "bitwise")


class Entries(Middle):
    """Operators on channels between 0 and 1, with others for their other operands."""

    def __init__(self, ops: list[str]) -> None:
        super().__init__(self.apply_all)
        self.ops = ops

    def apply_all(self, y: Tensor) -> Tensor:
        y = 0.6 * y.sigmoid() + 0.2
        total = y
        for op in self.ops:
            total = total + 0.1 * _called(op, y).to(y.dtype)
        return total


def _called(op: str, y: Tensor) -> Tensor:
    function = resolve(op)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for number, arg in enumerate(function._schema.arguments):
        if arg.has_default_value() and arg.name != "max":  # a clamp needs one bound
            continue
        value = _operand(op, arg, y * (1 + 0.5 * number))
        if arg.kwarg_only:
            kwargs[arg.name] = value
        else:
            args.append(value)
    return function(*args, **kwargs)


def _operand(op: str, arg: Any, y: Tensor) -> Any:
    kind, name = re.sub(r"Optional\[(.*)\]", r"\1", str(arg.type)), op.split(".")[1]
    if kind == "Tensor":
        is_mask = arg.name in ("condition", "mask") or name.startswith(BOOLEAN)
        if op == "aten.masked_fill.Tensor" and arg.name == "value":
            return torch.tensor(0.5)
        return y > 0.6 if is_mask else y.clone()
    plain = {"bool": False, "float": 0.5, "number": 0.5, "int": 1, "Device": torch.device("cpu")}
    plain |= {"str": "floor", "ScalarType": torch.float32}
    return plain[kind]


class Recurrent(Middle):
    """A layer of torch with a memory, over pixels as steps."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__(self.run)
        self.layer = kind(8, 8, batch_first=True, **options)

    def run(self, y: Tensor) -> Tensor:
        steps = self.layer(y.flatten(2).transpose(1, 2))[0]
        return steps.transpose(1, 2)[:, :8].reshape(y.shape)


RECURRENT = {
    "lstm": lambda: Recurrent(nn.LSTM, bidirectional=True),
    "gru": lambda: Recurrent(nn.GRU, num_layers=2),
    "rnn_tanh": lambda: Recurrent(nn.RNN),
    "rnn_relu": lambda: Recurrent(nn.RNN, nonlinearity="relu"),
}


def _volume(y: Tensor) -> Tensor:
    return y.unsqueeze(2).repeat(1, 1, 2, 1, 1)


def _resampled_to(y: Tensor) -> Tensor:
    """Sizes in numbers, where ``interpolate`` gives factors or both."""
    ops, line = torch.ops.aten, y.flatten(2)
    lines = ops.upsample_linear1d(line, [64], False) + ops.upsample_nearest1d(line, [64])
    images = (
        ops.upsample_nearest2d(y, [8, 8])
        + ops.upsample_bilinear2d(y, [8, 8], False)
        + ops.upsample_bicubic2d(y, [8, 8], False)
    )
    return images + lines.view(y.shape)


def _sized_by_batch(y: Tensor) -> Tensor:
    """Arithmetic on the size of the batch."""
    n = y.shape[0]
    y = y + torch.ones(n + 1, 1, 8, 8)[1:] + torch.ones(2 * n, 1, 8, 8)[n:]
    return y * ((n + 1) // 2) + y * (n % 7) + y * (n - 7) - 3 * y * (-n)


def _gathered(y: Tensor) -> Tensor:
    """A channel is a run of rows in the middle of these products."""
    z = y.flatten(2)[:, :, :8]
    a = torch.bmm(z.transpose(1, 2), z)
    b = torch.baddbmm(a, z.transpose(1, 2), z)
    return y + F.pad(b, (0, 0, 0, 0))[:, :1, :1, None] * 0.1


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "pools": lambda y: F.interpolate(
        F.adaptive_max_pool2d(y, 4) + F.max_pool2d(y, 2, return_indices=True)[0], scale_factor=2
    ),
    "pools of lines": lambda y: (
        F.adaptive_max_pool1d(y.flatten(2), 64) + F.max_pool1d(y.flatten(2), 3, 1, 1)
    ).view(y.shape),
    "pools of volumes": lambda y: (
        F.adaptive_avg_pool3d(_volume(y), (1, 8, 8)) + F.max_pool3d(_volume(y), (2, 1, 1))
    ).squeeze(2),
    "lines resampled": lambda y: F.max_pool1d(
        F.interpolate(y.flatten(2), scale_factor=2)
        + F.interpolate(y.flatten(2), scale_factor=2, mode="linear"),
        2,
    ).view(y.shape),
    "images resampled": lambda y: F.max_pool2d(
        F.interpolate(y, size=(16, 16), mode="bilinear")
        + F.interpolate(y, size=(16, 16), mode="bicubic")
        + F.interpolate(y, size=(16, 16), mode="bilinear", antialias=True)
        + F.interpolate(y, size=(16, 16), mode="bicubic", antialias=True),
        2,
    ),
    "volumes resampled": lambda y: (
        F.interpolate(_volume(y), scale_factor=2)
        + F.interpolate(_volume(y), scale_factor=2, mode="trilinear")
    ).amax(2)[:, :, ::2, ::2],
    "resampled to sizes": _resampled_to,
    "sized by the batch": _sized_by_batch,
    "mean of all": lambda y: y * y.mean(),
    "split by sizes": lambda y: torch.cat(torch.ops.aten.split.sizes(y, [3, 5], 1)[::-1], 1),
    "padded pixels": lambda y: (
        torch.ops.aten.reflection_pad2d(y, [1, 1, 1, 1])
        + torch.ops.aten.replication_pad2d(y, [1, 1, 1, 1])
        + torch.ops.aten.constant_pad_nd(y, [1, 1, 1, 1], 0.5)
    )[:, :, 1:-1, 1:-1],
    "padded channels": lambda y: torch.ops.aten.constant_pad_nd(y, [0, 0, 0, 0, 0, 2], 0.5)[:, :8],
    "moved": lambda y: (
        y.movedim(1, 2).movedim((2, 1), (1, 2)).moveaxis(1, -1).moveaxis(-1, 1).swapaxes(1, 2)
    ).swapaxes(1, 2),
    "tiled": lambda y: y.tile(1, 2, 1, 1)[:, :8] + y.view_as(y),
    "split": lambda y: torch.cat(torch.tensor_split(y, 3, 1)[::-1], 1),
    "products": _gathered,
    "deviations": lambda y: (
        y * torch.std(y, dim=1, correction=0, keepdim=True)
        + torch.var(y, dim=1, correction=1, keepdim=True)
        + torch.ops.aten.std.dim(y, [1], True, True)
    ),
    "extremes": lambda y: y * y.amin(1, keepdim=True) + y.log_softmax(1),
    "norm": lambda y: y * torch.ops.aten.norm.ScalarOpt_dim(y, 2, [1], True),
    "created": lambda y: (
        y
        + torch.ops.aten.scalar_tensor(0.5)
        + y.new_zeros(8)
        + y.new_ones(8)
        + y.new_full((8,), 0.5)
        + torch.zeros(8)
        + torch.arange(0, 8)
        + torch.arange(0.0, 4.0, 0.5)
        + torch.eye(8)
        + torch.ones_like(y)
    ),
}
STAYING: dict[str, Callable[[Tensor], Tensor]] = {
    "min.dim": lambda y: y * y.min(1, keepdim=True)[0],
    "prod": lambda y: y * y.sigmoid().prod(1, keepdim=True),
    "sort": lambda y: y.sort(1)[0],
    "any": lambda y: y * (y > 0.5).any(1, keepdim=True),
    "median": lambda y: y * y.median(1, keepdim=True)[0],
    "argmin": lambda y: y * y.argmin(1, keepdim=True),
    "argsort": lambda y: y * y.argsort(1),
    "cumprod": lambda y: y.sigmoid().cumprod(1),
    "max": lambda y: y / y.max(),
    "min": lambda y: y / y.min(),
    "tril": lambda y: y.transpose(1, 3).tril().transpose(1, 3),
    "gather": lambda y: y.gather(1, torch.ones_like(y).long()),
    "scatter": lambda y: y.scatter(1, torch.ones_like(y).long(), y),
    "index_put": lambda y: y.index_put((torch.tensor([0]),), y[:1]),
    "cosine_similarity": lambda y: y * F.cosine_similarity(y, y.flip(1)).unsqueeze(1),
    "cdist": lambda y: (
        y * torch.cdist(y.flatten(2), y.flatten(2)).mean((1, 2))[:, None, None, None]
    ),
    "grid_sampler": lambda y: F.grid_sample(y, y[:, :2].permute(0, 2, 3, 1), align_corners=False),
    "bilinear": lambda y: F.bilinear(y.mT, y.mT, torch.ones(8, 8, 8)),
    "diagonal": lambda y: (
        y * y.permute(0, 2, 1, 3).diagonal(dim1=1, dim2=2).mean(1)[:, :, None, None]
    ),
    "copy": lambda y: torch.ops.aten.copy(y, y * 2),
    "hstack": lambda y: torch.hstack([y, y])[:, :8],
    "narrow": lambda y: y.narrow(1, 0, 8),
}


def cut_at_random(network: Network) -> None:
    channels = channel_groups(network)
    for seed in (1, 2):
        edit = random_edit(channels, seed)
        cut = apply_edit(network, edit, channels)
        assert check_law_1(network, cut, channels, edit.keep).says_something
        verify_cut(network, cut, channels, edit)


@pytest.mark.parametrize("half", [0, 1])
def test_what_works_entry_by_entry(half):
    network = traced(Entries([op for op in ELEMENTWISE if op not in UNSEEN][half::2]))
    assert channel_groups(network)["stem.0"].status == "free"
    cut_at_random(network)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_can_be_cut(name):
    network = traced(Middle(FUNCTIONS[name]))
    names = {group.name.split("#")[0] for group in channel_groups(network).prunable}
    assert "stem.0" in names
    cut_at_random(network)


@pytest.mark.parametrize("name", STAYING)
def test_what_must_stay(name):
    network = traced(Middle(STAYING[name]))
    group = channel_groups(network)["stem.0"]
    assert (group.status, name in group.reason) == ("frozen", True)
    cut_at_random(network)


@pytest.mark.parametrize("name", RECURRENT)
def test_what_has_a_memory_stays(name):
    """The steps' channels and the layer's own weights are frozen and say why."""
    network = traced(RECURRENT[name]())
    groups = channel_groups(network).groups
    own = [g for g in groups if g.name.startswith("layer") or g.name == "stem.0"]
    assert len(own) > 1
    assert all(f"no rule for aten.{name}.input" in str(group.reason) for group in own)
    cut_at_random(network)


class Others(Net):
    """Layers and numbers that stand in no other net."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.last = conv_bn(3, 8), conv(8, 6)
        self.same = nn.ModuleList(
            kind(8, 8, 3, padding="same") for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        )
        self.back = nn.ModuleList(
            kind(8, 8, 1) for kind in (nn.ConvTranspose1d, nn.ConvTranspose3d)
        )
        self.table, self.square = nn.Embedding(64, 8), nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.same[1](self.stem(x))
        line = self.back[0](self.same[0](y.flatten(2)))
        volume = self.back[1](self.same[2](_volume(y))).amax(2)
        places = self.table(torch.arange(64)).mT.reshape(8, 8, 8)
        rows = torch.addmm(y.amax((2, 3)), y.mean((2, 3)), self.square)
        rows = torch.mm(rows, self.square.T)
        y = y + line.view(y.shape) + volume + places + rows[:, :, None, None]
        return self.classify(self.last(y))


def test_layers_of_no_other_net():
    network = traced(Others())
    cut = {layer for group in channel_groups(network).prunable for layer in group.layers}
    assert {"same.0", "same.1", "same.2", "back.0", "back.1", "table"} <= cut
    cut_at_random(network)


def _graphs() -> Iterator[Network]:
    yield from (network_of(name) for name in NETS)
    named = [*FREEZING.values(), *(entry[:2] for entry in CUT.values())]
    functions = [*MIXING.values(), *FUNCTIONS.values(), *STAYING.values()]
    for function, n_out in [*named, *((function, 8) for function in functions)]:
        yield traced(Middle(function, n_out))
    yield traced(Others())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_rule_is_checked_somewhere():
    seen = {node.op for network in _graphs() for node in network.graph.nodes}
    assert set(DEFAULT_RULES) - seen - set(ELEMENTWISE) <= REWRITTEN | UNSEEN
