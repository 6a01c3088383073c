"""One training step: forward, loss, backward, and what happens between gradients and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from nnslim.distill import classification_loss
from nnslim.errors import InputError
from nnslim.processes import share_of, sum_, world_size
from nnslim.train.average import WeightAverage
from nnslim.train.compiling import Forward
from nnslim.train.graphs import GraphReplay
from nnslim.train.optimizer import build_optimizer, optimizer_tensors, set_optimizer_tensors
from nnslim.train.records import Task
from nnslim.train.teaching import RememberingTeacher

__all__ = ["Stepper"]


class Stepper:
    """The network, its optimiser and their companions.

    A step is ``backward``, after which the loss is known and nothing has changed, then ``update``.
    """

    def __init__(
        self, task: Task, accelerator: Accelerator, layout: torch.memory_format, *, compiled: bool
    ) -> None:
        self._task = task
        self._accelerator = accelerator
        self._layout = layout
        self._optimizer = build_optimizer(task.network, task.config)
        self._prepared = accelerator.prepare_optimizer(self._optimizer)
        how = {"compiled": compiled, "required": task.config.compile is True}
        self._student = Forward(task.network, **how)
        self._teacher = None if task.teaching is None else Forward(task.teaching, **how)
        self._passes: Callable[..., tuple[Tensor, ...]] = self._forward_backward
        self._teach: Callable[..., tuple[Tensor, ...]] = self._ask_teacher
        self._replays: list[GraphReplay[tuple[Tensor, ...]]] = []
        if task.config.cuda_graph and not compiled and self._may_replay():
            self._passes = self._replayed(self._passes, task.network)
            # A teacher that remembers looks at the images on the CPU.
            if task.teaching is not None and not isinstance(task.teaching, RememberingTeacher):
                self._teach = self._replayed(self._teach, task.teaching)
        decay = task.config.ema
        self.average = None if decay is None else WeightAverage(task.network, decay)

    def expect(self, shape: torch.Size) -> None:
        """Say which shape (N, C, H, W) nearly all batches have."""
        mine = torch.Size((len(share_of(torch.empty(shape[0]))), *shape[1:]))
        for forward in self._forwards():
            forward.expect(mine)

    def problem(self) -> str | None:
        """Return why a step is not compiled or replayed that should be, once one was done."""
        for replay in self._replays:
            if replay.problem is not None:
                return f"the training step is not a CUDA graph: {replay.problem}"
        return next((forward.problem for forward in self._forwards() if forward.problem), None)

    def graphed(self) -> bool:
        """Whether steps are replayed as CUDA graphs."""
        return bool(self._replays) and self.problem() is None

    def backward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Leave gradients behind, the same in every process.

        Args:
            images: (N, C, H, W), the same in every process; each takes its share.
            labels: (N,).

        Returns:
            The loss over the batch, and logits (n, K) and labels (n,) of this process's share.
        """
        device, share = self._task.device, len(share_of(labels)) / len(labels)
        if len(labels) < world_size():
            message = f"a batch of {len(labels)} images for {world_size()} processes"
            raise InputError(message, hint="use a larger batch size, and drop the last batch")
        images = share_of(images).to(device, non_blocking=True)
        images = images.contiguous(memory_format=self._layout)
        labels = share_of(labels).to(device, non_blocking=True)
        taught = () if self._teacher is None else self._teach(images)
        loss, logits = self._passes(images, labels, *taught, share=share)
        sum_([loss, *self._gradients()])
        return loss, logits, labels

    def update(self, rate: float, step: int) -> None:
        """Change the weights by the gradients, at a learning rate, in step number ``step``."""
        task, network = self._task, self._task.network
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._accelerator.unscale_gradients(self._prepared)
        if task.penalty is not None and self._gradients_are_usable():
            task.penalty.add_(network, step, task.steps)
        if task.config.grad_clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), task.config.grad_clip)
        self._prepared.step()
        self._prepared.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(network, step)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint must keep, with a dotted prefix for each part."""
        parts = {
            "network": self._task.network.state_dict(),
            "optimizer": optimizer_tensors(self._task.network, self._optimizer),
            "average": {} if self.average is None else self.average.tensors(),
        }
        return {
            f"{part}.{name}": value
            for part, named in parts.items()
            for name, value in named.items()
        }

    def states(self) -> dict[str, dict[str, float]]:
        """Return the numbers that a checkpoint must keep."""
        scaler, penalty = self._accelerator.scaler, self._task.penalty
        return {
            "scaler": {} if scaler is None else scaler.state_dict(),
            "penalty": {} if penalty is None else penalty.state(),
        }

    def restore(
        self, parts: Mapping[str, Mapping[str, Tensor]], states: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Take back what ``tensors``, split at the first dot, and ``states`` returned."""
        self._task.network.load_state_dict(parts["network"])
        set_optimizer_tensors(self._task.network, self._optimizer, parts.get("optimizer", {}))
        if self.average is not None:
            self.average.restore(parts["average"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(dict(states["scaler"]))
        if self._task.penalty is not None:
            self._task.penalty.restore(states["penalty"])

    def share_statistics(self) -> None:
        """Average the batch norm statistics, which each process took from its images."""
        if world_size() == 1:
            return
        buffers = dict(self._task.network.named_buffers())
        averages = {} if self.average is None else self.average.tensors()
        both = [*buffers.values(), *(averages[name] for name in buffers if name in averages)]
        floats = [buffer for buffer in both if buffer.is_floating_point()]
        sum_(floats)
        for buffer in floats:
            buffer.div_(world_size())

    def _ask_teacher(self, images: Tensor) -> tuple[Tensor]:
        assert self._teacher is not None
        with self._accelerator.autocast(), torch.no_grad():
            return (self._teacher(images),)  # (N, K)

    def _forward_backward(
        self, images: Tensor, labels: Tensor, *taught: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """Leave gradients of this share of the loss behind; return that share and the logits."""
        with self._accelerator.autocast():
            logits = self._student(images)  # (N, K)
        config, teaching = self._task.config.loss, taught[0] if taught else None
        loss = classification_loss(logits, labels, teaching, config) * share
        self._accelerator.backward(loss)
        return loss.detach(), logits.detach()

    def _may_replay(self) -> bool:
        """On one GPU, without the scaler of fp16, which looks at the gradients between passes."""
        alone = world_size() == 1 and self._accelerator.scaler is None
        return alone and self._task.device.type == "cuda"

    def _replayed(
        self, function: Callable[..., tuple[Tensor, ...]], module: nn.Module
    ) -> GraphReplay[tuple[Tensor, ...]]:
        self._replays.append(GraphReplay(function, module))
        return self._replays[-1]

    def _forwards(self) -> list[Forward]:
        return [forward for forward in (self._student, self._teacher) if forward is not None]

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._task.network.parameters() if p.grad is not None]

    def _gradients_are_usable(self) -> bool:
        """The fp16 scaler skips steps whose gradients overflowed: a penalty must not learn them."""
        if self._accelerator.scaler is None:
            return True
        return bool(nn.utils.get_total_norm(self._gradients()).isfinite())
