"""One model through everything: trace, groups, plan, cut, proof, training step, file, ONNX."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from nnslim.artifact import save_network
from nnslim.channels import ChannelMap, channel_groups
from nnslim.channels.magnitude import magnitude
from nnslim.errors import ConfigError, NnslimError
from nnslim.network import Network, trace_network
from nnslim.onnx import export_onnx
from nnslim.pruning import Constraints, CostModel, Limit, make_plan
from nnslim.pruning.plans.plan import Plan
from nnslim.surgery import apply_edit, verify_cut
from tests.laws.made import half_edit, move_statistics
from tests.sweep.models import build

__all__ = ["sweep_one"]

RELOAD = """
import sys, torch
from nnslim.artifact import load_network
network, found = load_network(sys.argv[1]), torch.load(sys.argv[2])
torch.set_num_threads(int(sys.argv[3]))
with torch.no_grad():
    value = network(*found["inputs"])
leaves = torch.utils._pytree.tree_leaves(value)
assert all(torch.equal(a, b) for a, b in zip(leaves, found["outputs"], strict=True))
"""


def sweep_one(source: str, name: str, threads: int = 1) -> dict[str, Any]:
    """Run every stage on one model; the row says how far it came and why not further."""
    row: dict[str, Any] = {"source": source, "model": name, "stage": "build"}
    torch.set_num_threads(threads)
    start = _processor_seconds()
    try:
        _stages(row, source, name)
        row["stage"] = "done"
    except (NnslimError, RuntimeError, AssertionError, ValueError, LookupError, TypeError) as error:
        row["reason"] = f"{type(error).__name__}: {str(error).strip()[:300]}"
    row["seconds"] = round(_processor_seconds() - start, 1)
    row["peak_mb"] = _peak_mb() - row.pop("loaded_mb", 0)
    return row


def _stages(row: dict[str, Any], source: str, name: str) -> None:
    built = build(source, name)
    module = move_statistics(built.module)
    row |= {"note": built.note, "pixels": built.size[1], "loaded_mb": _peak_mb()}
    row["stage"] = "trace"
    network = trace_network(module, torch.zeros(2, *built.size))
    del module, built
    row["stage"] = "groups"
    channels = channel_groups(network)
    row |= {
        "groups": len(channels.groups),
        "prunable": len(channels.prunable),
        "approximate": sum(g.status == "approximate" for g in channels.groups),
        "share": prunable_share(network, channels),
        "params": network.n_parameters,
        "frozen": _why_frozen(network, channels),
    }
    row["stage"] = "plan"
    plan, row["with_approximate"] = _plan(network, channels)
    row["kept"] = plan.after.params / plan.before.params
    row["stage"] = "cut"
    cut = apply_edit(network, plan.edit, channels)
    assert cut.n_parameters == plan.after.params, "the plan's parameters are not the network's"
    check = verify_cut(network, cut, channels, plan.edit)
    assert check.removed > 0, "the proof says nothing: no removed activation was above zero"
    row["error"] = check.error
    row["stage"] = "cut everything"
    edit = half_edit(channels, 1, ("free", "approximate"))
    half = apply_edit(network, edit, channels)
    row["error"] = max(row["error"], verify_cut(network, half, channels, edit).error)
    row["half"] = half.n_parameters / network.n_parameters
    shape = network.input_shape
    del network, half, channels
    row["stage"] = "training step"
    _train(cut, shape)
    with tempfile.TemporaryDirectory() as folder:
        row["stage"] = "reload"
        _reload(cut, shape, Path(folder))
        row["stage"] = "onnx"
        row["onnx"] = export_onnx(cut, Path(folder) / "net.onnx").parity.max_rel


def _plan(network: Network, channels: ChannelMap) -> tuple[Plan, bool]:
    """Half of the parameters, without norms over cut channels where that is enough."""
    costs, scores = CostModel(network, channels), magnitude(network, channels)
    for approximate in (False, True):
        rules = Constraints({"params": Limit(0.5, relative=True)}, approximate=approximate)
        try:
            return make_plan(channels, costs, scores, rules), approximate
        except ConfigError:
            continue
    widths = {g.name: max(1, g.width // 10) for g in channels.prunable if g.parts is None}
    reach = costs.costs(widths).params / network.n_parameters
    rules = Constraints({"params": Limit(min(1.0, reach + 0.05), relative=True)}, approximate=True)
    return make_plan(channels, costs, scores, rules), True


def prunable_share(network: Network, channels: ChannelMap) -> float:
    """Share of the parameter entries that some prunable channel contains."""
    fixed = {name: np.array(p.shape) for name, p in network.named_parameters()}
    for group in channels.prunable:
        for member in group.members:
            if member.tensor in fixed:
                blocks = 1 if member.blocks is None else int(member.blocks.max()) + 1
                fixed[member.tensor][member.dim] -= member.positions.size // blocks
    return 1 - sum(int(np.prod(sizes)) for sizes in fixed.values()) / network.n_parameters


def _why_frozen(network: Network, channels: ChannelMap) -> str:
    """The reason that freezes most, weighted by the tensors it touches."""
    weight: dict[str, float] = {}
    for group in channels.groups:
        if group.status == "frozen" and group.reason != "network output":
            tensors = ((network.tensor(m.tensor), m) for m in group.members)
            share = sum(t.numel() * m.positions.size / t.shape[m.dim] for t, m in tensors)
            weight[str(group.reason)] = weight.get(str(group.reason), 0.0) + share
    return max(weight, key=lambda reason: weight[reason]) if weight else ""


def _train(network: Network, shape: tuple[int, ...]) -> None:
    network.train()
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    output = torch.utils._pytree.tree_leaves(network(images))[0]
    if output.dim() == 2:
        loss = F.cross_entropy(output, torch.tensor([0, 1]))
    else:
        loss = output.square().mean()
    loss.backward()
    assert bool(torch.isfinite(loss)), "the loss of a training step is not finite"
    lost = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not lost, f"no gradient for {', '.join(lost[:3])}"
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-3 * parameter.grad)
            parameter.grad = None
    network.eval()


def _reload(network: Network, shape: tuple[int, ...], folder: Path) -> None:
    inputs = (torch.randn(2, *shape, generator=torch.Generator().manual_seed(2)),)
    with torch.no_grad():
        outputs = torch.utils._pytree.tree_leaves(network(*inputs))
    save_network(network, folder / "net.safetensors")
    torch.save({"inputs": inputs, "outputs": outputs}, folder / "values.pt")
    command = [sys.executable, "-c", RELOAD, folder / "net.safetensors", folder / "values.pt"]
    command.append(str(torch.get_num_threads()))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"a fresh process: {done.stderr.strip().splitlines()[-1:]}"


def _processor_seconds() -> float:
    """Of this process and of those it has waited for, whatever else the machine does meanwhile."""
    return sum(os.times()[:4])


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
