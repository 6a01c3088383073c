"""The moving parts of a training run: epochs, steps, and its state at the end of an epoch."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from nnslim.distill import classification_loss
from nnslim.errors import ConfigError, InputError, NnslimError
from nnslim.train.checkpoint import Checkpoint, fingerprint
from nnslim.train.optimizer import build_sgd, momentum_buffers, set_momentum_buffers
from nnslim.train.records import EpochRecord, FitResult, TrainEvent
from nnslim.train.runtime import seed_epoch
from nnslim.train.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from accelerate import Accelerator
    from torch import Tensor

    from nnslim.train.checkpoint import CheckpointStore
    from nnslim.train.config import TrainConfig
    from nnslim.train.records import BatchLoader, GradientPenalty

__all__ = ["Run", "Task"]

# Reading a loss back waits for the device; on the CPU there is nothing to wait for.
_DEVICE_CHECK_EVERY = 25


@dataclass(frozen=True)
class Task:
    """The arguments of ``fit``, checked."""

    network: nn.Module
    loader: BatchLoader
    config: TrainConfig
    device: torch.device
    teacher: nn.Module | None
    evaluate: Callable[[nn.Module], float] | None
    on_event: Callable[[TrainEvent], None] | None
    penalty: GradientPenalty | None

    @property
    def teaching(self) -> nn.Module | None:
        """The teacher, if its logits count."""
        return self.teacher if self.config.distill_weight > 0 else None

    def check(self) -> None:
        """Refuse what cannot be trained."""
        if len(self.loader) == 0:
            raise InputError("there are no training batches", hint="lower the batch size")
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise ConfigError("the network has no trainable parameters")
        if self.teacher is self.network:
            raise ConfigError("the network cannot teach itself", hint="pass a copy as the teacher")

    def identity(self) -> dict[str, object]:
        """What a checkpoint must agree with to be this run's."""
        return self.config.to_json() | {
            "steps per epoch": len(self.loader),
            "starting weights": fingerprint(self.network),
            "teacher": None if self.teaching is None else fingerprint(self.teaching),
            "gradient penalty": None if self.penalty is None else self.penalty.identity(),
        }


class _Tally:
    """Losses and hits of one epoch, left on the device until somebody must look."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self._losses = torch.zeros(steps, device=device)
        self._hits = torch.zeros((), dtype=torch.int64, device=device)
        self._images = 0
        self.steps = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._losses[self.steps] = loss.detach()
        self._hits += (logits.detach().argmax(dim=1) == labels).sum()
        self._images += len(labels)
        self.steps += 1

    def losses(self, start: int) -> list[float]:
        return self._losses[start : self.steps].tolist()

    def mean_loss(self) -> float:
        return math.fsum(self.losses(0)) / self.steps

    def top1(self) -> float:
        return 100.0 * self._hits.item() / self._images


class Run:
    """The moving parts of one call of ``fit``."""

    def __init__(self, task: Task, accelerator: Accelerator, layout: torch.memory_format) -> None:
        self._task = task
        self._accelerator = accelerator
        self._layout = layout
        self._optimizer = build_sgd(task.network, task.config)
        self._stepper = accelerator.prepare_optimizer(self._optimizer)
        self._history: list[EpochRecord] = []
        self._steps = task.config.epochs * len(task.loader)
        self._check_every = 1 if task.device.type == "cpu" else _DEVICE_CHECK_EVERY

    def finish(self, store: CheckpointStore | None) -> FitResult:
        """Train the epochs that are left."""
        checkpoint, notes = (None, ()) if store is None else store.latest()
        if checkpoint is not None:
            self._restore(checkpoint)
            notes = (*notes, f"resumed after epoch {checkpoint.epoch}")
        done = len(self._history)
        for note in notes:
            self._emit("note", done, 0, note=note)
        for epoch in range(done, self._task.config.epochs):
            record = self._train_epoch(epoch)
            self._history.append(record)
            if store is not None:
                store.save(self._snapshot())
            steps = len(self._task.loader)
            self._emit("epoch", epoch + 1, steps, loss=record.loss, lr=record.lr, record=record)
        resumed_from = None if checkpoint is None else checkpoint.epoch
        return FitResult(len(self._history), tuple(self._history), resumed_from, notes)

    def _train_epoch(self, epoch: int) -> EpochRecord:
        task, steps = self._task, len(self._task.loader)
        start = time.perf_counter()
        seed_epoch(task.config.seed, epoch, self._accelerator.process_index)
        task.loader.set_epoch(epoch)
        if task.penalty is not None:
            task.penalty.start_epoch(task.network.eval(), epoch, task.config.epochs)
        task.network.train()
        tally = _Tally(steps, task.device)
        rate = 0.0
        for images, labels in task.loader:
            if tally.steps == steps:
                raise InputError(f"the loader gives more batches than its length, {steps}")
            rate = self._rate(epoch, tally.steps)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._step(epoch, tally, images, labels)
        if tally.steps < steps:
            raise InputError(f"the loader gave {tally.steps} batches, its length says {steps}")
        self._check_weights(epoch)
        seconds = time.perf_counter() - start
        loss, top1 = tally.mean_loss(), tally.top1()
        return EpochRecord(epoch + 1, loss, top1, self._validate(), rate, seconds)

    def _step(self, epoch: int, tally: _Tally, images: Tensor, labels: Tensor) -> None:
        task, network = self._task, self._task.network
        images = images.to(task.device, non_blocking=True).contiguous(memory_format=self._layout)
        labels = labels.to(task.device, non_blocking=True)
        with self._accelerator.autocast():
            logits = network(images)  # (N, K)
            with torch.no_grad():
                taught = None if task.teaching is None else task.teaching(images)  # (N, K)
        loss = classification_loss(logits, labels, taught, task.config.loss)
        tally.add(loss, logits, labels)
        if tally.steps % self._check_every == 0 or tally.steps == len(task.loader):
            self._report(epoch, tally)
        self._accelerator.backward(loss)
        self._accelerator.unscale_gradients(self._stepper)
        if task.penalty is not None and self._gradients_are_usable():
            task.penalty.add_(network, epoch * len(task.loader) + tally.steps - 1, self._steps)
        if task.config.grad_clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), task.config.grad_clip)
        self._stepper.step()
        self._stepper.zero_grad(set_to_none=True)

    def _gradients_are_usable(self) -> bool:
        """The fp16 scaler skips steps whose gradients overflowed: a penalty must not learn them."""
        if self._accelerator.scaler is None:
            return True
        gradients = [p.grad for p in self._task.network.parameters() if p.grad is not None]
        return bool(nn.utils.get_total_norm(gradients).isfinite())

    def _rate(self, epoch: int, step: int) -> float:
        config = self._task.config
        return learning_rate(epoch * len(self._task.loader) + step, self._steps, config)

    def _report(self, epoch: int, tally: _Tally) -> None:
        """Look at the losses since the last look; stop at the first that is not finite."""
        first = (tally.steps - 1) // self._check_every * self._check_every
        losses = tally.losses(first)
        steps = len(self._task.loader)
        for step, loss in enumerate(losses, start=first):
            if not math.isfinite(loss):
                where = f"epoch {epoch + 1}, step {step + 1} of {steps}"
                rate = self._rate(epoch, step)
                message = f"the loss is {loss} at {where} (learning rate {rate:.3g})"
                raise NnslimError(message, hint="lower --lr, or clip the gradients")
        rate = self._rate(epoch, tally.steps - 1)
        self._emit("step", epoch + 1, tally.steps, loss=losses[-1], lr=rate)

    def _check_weights(self, epoch: int) -> None:
        """A step can spoil the weights after its loss was fine; never save or return those."""
        state = self._task.network.state_dict()
        names = [name for name, tensor in state.items() if tensor.is_floating_point()]
        finite = torch.stack([state[name].isfinite().all() for name in names]).tolist()
        if not all(finite):
            name = names[finite.index(False)]
            rate = self._rate(epoch, len(self._task.loader) - 1)
            message = f"{name} is not finite after epoch {epoch + 1} (learning rate {rate:.3g})"
            raise NnslimError(message, hint="lower --lr, or clip the gradients")

    def _validate(self) -> float | None:
        if self._task.evaluate is None:
            return None
        self._task.network.eval()
        with torch.no_grad():
            return self._task.evaluate(self._task.network)

    def _snapshot(self) -> Checkpoint:
        network, scaler, penalty = self._task.network, self._accelerator.scaler, self._task.penalty
        momentum = momentum_buffers(network, self._optimizer)
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        tensors |= {f"momentum.{name}": tensor for name, tensor in momentum.items()}
        history = [asdict(record) for record in self._history]
        return Checkpoint(
            len(self._history),
            tensors,
            history,
            scaler={} if scaler is None else scaler.state_dict(),
            penalty={} if penalty is None else penalty.state(),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "momentum": {}}
        for key, tensor in checkpoint.tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = tensor
        self._task.network.load_state_dict(parts["network"])
        set_momentum_buffers(self._task.network, self._optimizer, parts["momentum"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(checkpoint.scaler)
        if self._task.penalty is not None:
            self._task.penalty.restore(checkpoint.penalty)
        self._history = [EpochRecord(**record) for record in checkpoint.history]  # pyright: ignore

    def _emit(
        self, kind: Literal["step", "epoch", "note"], epoch: int, step: int, **more: object
    ) -> None:
        if self._task.on_event is not None:
            epochs, steps = self._task.config.epochs, len(self._task.loader)
            event = TrainEvent(kind, epoch, epochs, step, steps, **more)  # pyright: ignore
            self._task.on_event(event)
