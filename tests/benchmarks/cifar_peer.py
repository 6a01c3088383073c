"""Torch-Pruning's group-norm pruner and its sparse training, for ``tests.benchmarks.cifar``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from nnslim.measure.macs import count_costs
from nnslim.models.cifar import CifarResNet
from nnslim.network import Network, trace_network
from nnslim.train import fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from nnslim.run.trainer import Trainer
    from nnslim.settings.prune import PruneConfig

__all__ = ["group_norm_network"]

# Its published recipe for CIFAR-10 ResNets.
_STRENGTH = 5e-4


class _Penalty:
    """Its regulariser as a gradient penalty of our training loop."""

    def __init__(self, pruner: Any) -> None:
        self._pruner = pruner

    def start_epoch(self, network: nn.Module, epoch: int, epochs: int) -> None:
        del network, epoch, epochs
        self._pruner.update_regularizer()

    def add_(self, network: nn.Module, step: int, steps: int) -> None:
        del step, steps
        self._pruner.regularize(network)

    def state(self) -> dict[str, float]:
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        del state

    def identity(self) -> dict[str, object]:
        return {"torch-pruning": _STRENGTH}


def group_norm_network(trainer: Trainer[PruneConfig]) -> Network:
    """Train sparsely, then cut inner filters until the budget in MACs holds.

    It does not understand the padded shortcuts of these ResNets, so the residual stream stays.
    """
    import torch_pruning as tp

    dense = trainer.teacher
    module = _eager(dense)
    streams = [
        layer
        for name, layer in module.named_modules()
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)) and not name.endswith(".conv1")
    ]
    pruner = tp.pruner.GroupNormPruner(
        module,
        torch.zeros(2, 3, 32, 32),
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=0.95,
        iterative_steps=400,
        ignored_layers=streams,
        reg=_STRENGTH,
    )
    if trainer.config.sparse.epochs:
        fit(
            module,
            trainer.images(1),
            replace(trainer.config.sparse_training, compile=False),
            device=trainer.context.device,
            teacher=dense if trainer.config.training.distill_weight > 0 else None,
            gradient_penalty=_Penalty(pruner),
        )
    module.cpu()
    images, limit = torch.zeros(1, 3, 32, 32), trainer.config.limits["macs"]
    most = limit.of(count_costs(dense).macs)
    dense_ops, _ = tp.utils.count_ops_and_params(module, images)
    while True:
        pruner.step()
        # Its count is quick, and includes a little that ours does not.
        if tp.utils.count_ops_and_params(module, images)[0] > 1.02 * limit.of(dense_ops):
            continue
        network = trace_network(module, torch.zeros(2, 3, 32, 32))
        if count_costs(network).macs <= most:
            network.preprocess = dense.preprocess
            return network


def _eager(network: Network) -> CifarResNet:
    """The module that the file was trained as."""
    tensors = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    module = CifarResNet(2 * sum("conv" in name for name in tensors) // 2 + 1)
    missing, unexpected = module.load_state_dict(tensors, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    return module.eval()
