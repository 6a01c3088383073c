"""``fit``: the one way to train a network, with or without a teacher, resumable.

The network stays on the device and keeps its modes; so does the teacher, whose tensors are not
changed. The process's random state is not touched.

With checkpoints, every finished epoch is on disk before its event is sent, and long epochs now and
then in between. A call with the same network, config, teacher and number of steps continues after
the newest checkpoint: on the CPU the result is bit-equal to a run that was never interrupted,
wherever it was killed.

Started in several processes (``torchrun``, ``accelerate launch``), every process takes its share of
every batch, and all end with the same weights; see ``nnslim.processes``.

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

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import nn

from nnslim.processes import broadcast_tensors, connected, local_device, world_size
from nnslim.settings.resolve import resolved
from nnslim.settings.train import TrainConfig
from nnslim.train.checkpoint import Checkpoints, CheckpointStore
from nnslim.train.compiling import choose, released
from nnslim.train.epochs import Run
from nnslim.train.records import BatchLoader, Callbacks, FitResult, GradientPenalty, Task
from nnslim.train.runtime import accelerator_for, flush_denormals, forked_random_state, placed
from nnslim.train.step import Stepper

__all__ = ["fit"]


def fit(  # noqa: PLR0913 - what a training is, and who follows it
    network: nn.Module,
    loader: BatchLoader,
    config: TrainConfig,
    *,
    device: torch.device,
    teacher: nn.Module | None = None,
    callbacks: Callbacks | None = None,
    checkpoints: Checkpoints | None = None,
    gradient_penalty: GradientPenalty | None = None,
) -> FitResult:
    """Train a network in place by SGD on labels and, where there is one, a teacher.

    Args:
        network: Maps images (N, C, H, W) to logits (N, K). Parameters with ``requires_grad`` train.
        loader: The training batches.
        config: The run.
        device: Where to train.
        teacher: Gives logits (N, K) for the same images; not run when ``distill_weight`` is 0.
        callbacks: Called between steps and epochs.
        checkpoints: Where to keep them, and how often; None keeps none.
        gradient_penalty: Adds to the gradients of every step, before they are clipped. Its state
            is kept in the checkpoints.

    Raises:
        ConfigError: The settings contradict each other or the checkpoints that are there.
        DeviceError: The device is not there.
        InputError: The loader is empty or gives another number of batches than its length.
        NnslimError: The loss or a weight is no longer finite.
    """
    callbacks, checkpoints = callbacks or Callbacks(), checkpoints or Checkpoints()
    with connected(device), ExitStack() as stack:
        here, config = local_device(device), resolved(config)
        task = Task(network, loader, config, here, teacher, callbacks, gradient_penalty)
        task.check()
        return _run(task, checkpoints, stack)


def _run(task: Task, checkpoints: Checkpoints, stack: ExitStack) -> FitResult:
    """Train; what is borrowed from the process goes back when ``stack`` closes."""
    network, device = task.network, task.device
    if task.config.epochs == 0:
        return FitResult(epochs=0, history=())
    accelerator = stack.enter_context(accelerator_for(device, task.config.precision))
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
    directory = checkpoints.directory
    store = None if directory is None else CheckpointStore(directory, identity)
    network.zero_grad(set_to_none=True)  # a saliency may have left gradients behind
    stepper = Stepper(task, accelerator, layout, compiled=choice.compiled)
    return Run(task, stepper, store, 60 * checkpoints.minutes).finish(choice)
