"""``fit``: the one way to train a network, with or without a teacher, resumable."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from nnslim.processes import broadcast_tensors, connected, local_device, world_size
from nnslim.settings.resolve import resolved
from nnslim.train.checkpoint import CheckpointStore
from nnslim.train.compiling import choose, released
from nnslim.train.epochs import Run
from nnslim.train.records import FitResult
from nnslim.train.runtime import accelerator_for, flush_denormals, forked_random_state, placed
from nnslim.train.step import Stepper
from nnslim.train.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from torch import nn

    from nnslim.settings.train import TrainConfig
    from nnslim.train.records import BatchLoader, GradientPenalty, TrainEvent

__all__ = ["fit"]


def fit(  # noqa: PLR0913
    network: nn.Module,
    loader: BatchLoader,
    config: TrainConfig,
    *,
    device: torch.device,
    teacher: nn.Module | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    on_event: Callable[[TrainEvent], None] | None = None,
    checkpoint_dir: Path | None = None,
    checkpoint_minutes: float = 5.0,
    gradient_penalty: GradientPenalty | None = None,
) -> FitResult:
    """Train a network in place by SGD on labels and, where there is one, a teacher.

    The network stays on ``device`` and keeps its modes; so does the teacher, whose tensors are not
    changed. The process's random state is not touched.

    With ``checkpoint_dir``, every finished epoch is on disk before its event is sent, and long
    epochs now and then in between. A call with the same network, config, teacher and number of
    steps continues after the newest checkpoint: on the CPU the result is bit-equal to a run that
    was never interrupted, wherever it was killed.

    Started in several processes (``torchrun``, ``accelerate launch``), every process takes its
    share of every batch, and all end with the same weights; see ``nnslim.processes``.

    Args:
        network: Maps images (N, C, H, W) to logits (N, K). Parameters with ``requires_grad`` train.
        loader: The training batches.
        config: The run.
        device: Where to train.
        teacher: Gives logits (N, K) for the same images; not run when ``distill_weight`` is 0.
        evaluate: Called after each epoch with the network in eval mode and gradients off; returns
            an accuracy for the record.
        on_event: Called with progress, in the main process.
        checkpoint_dir: Where this run, and no other, keeps its checkpoints.
        checkpoint_minutes: Most minutes of an epoch that a kill costs; 0 saves every step. With
            several processes, only whole epochs are saved.
        gradient_penalty: Adds to the gradients of every step, before they are clipped. Its state
            is kept in the checkpoints.

    Raises:
        ConfigError: The settings contradict each other or the checkpoints found.
        DeviceError: The device is not there.
        InputError: The loader is empty or gives another number of batches than its length.
        NnslimError: The loss or a weight is no longer finite.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from nnslim.settings.train import TrainConfig
        >>> class Batches(list):
        ...     def set_epoch(self, epoch): ...
        >>> data = Batches([(torch.eye(4).reshape(4, 1, 2, 2), torch.arange(4))])
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
        >>> fit(network, data, TrainConfig(epochs=3), device=torch.device("cpu")).epochs
        3
    """
    with ExitStack() as stack:
        stack.enter_context(connected(device))
        device = local_device(device)
        config = resolved(config)
        task = Task(network, loader, config, device, teacher, evaluate, on_event, gradient_penalty)
        task.check()
        if config.epochs == 0:
            return FitResult(epochs=0, history=())
        accelerator = stack.enter_context(accelerator_for(device, config.precision))
        stack.enter_context(flush_denormals(device))
        stack.enter_context(forked_random_state(device))
        layout = stack.enter_context(placed(network, device))
        if task.teaching is not None:
            stack.enter_context(placed(task.teaching, device))
            task.teaching.eval()
        if world_size() > 1:
            network.load_state_dict(broadcast_tensors(network.state_dict()))
        choice = choose(task)
        stack.enter_context(released(compiled=choice.compiled))
        identity = task.identity(compiled=choice.compiled)
        store = CheckpointStore(checkpoint_dir, identity) if checkpoint_dir else None
        network.zero_grad(set_to_none=True)  # a saliency may have left gradients behind
        stepper = Stepper(task, accelerator, layout, compiled=choice.compiled)
        return Run(task, stepper, store, 60 * checkpoint_minutes).finish(choice)
