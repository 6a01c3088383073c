"""The course of a training run: epochs, steps, checkpoints and the events about them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from nnslim.errors import InputError
from nnslim.processes import broadcast, broadcast_tensors, is_main, rank, world_size
from nnslim.train.checkpoint import Checkpoint, CheckpointStore
from nnslim.train.checks import check_losses, check_same, check_weights
from nnslim.train.compiling import Choice
from nnslim.train.optimizer import learning_rate
from nnslim.train.records import EpochRecord, EventKind, FitResult, Task, TrainEvent
from nnslim.train.runtime import random_state, seed_epoch, set_random_state
from nnslim.train.step import Stepper
from nnslim.train.tally import Tally

__all__ = ["Run"]

# Reading a loss back waits for the device; on the CPU there is nothing to wait for.
_DEVICE_CHECK_EVERY = 25


@dataclass(frozen=True)
class _Epoch:
    """An epoch under way; ``start`` and ``penalty`` are for checkpoints within it."""

    number: int
    tally: Tally
    began: float  # seconds; as if it had not been interrupted
    # The network that the gradient penalty saw when the epoch began, and its state then.
    start: dict[str, Tensor] = field(default_factory=dict)
    penalty: dict[str, float] = field(default_factory=dict)


class Run:
    """One call of ``fit``, from the newest checkpoint to the last epoch.

    One process writes a checkpoint within an epoch, too, after ``every_s`` seconds.
    """

    def __init__(
        self, task: Task, stepper: Stepper, store: CheckpointStore | None, every_s: float
    ) -> None:
        self._task = task
        self._stepper = stepper
        self._store = store
        self._every_s = math.inf if store is None or world_size() > 1 else every_s
        self._saved_at = time.monotonic()
        self._history: list[EpochRecord] = []
        self._notes: list[str] = []
        self._steps = len(task.loader)
        self._check_every = 1 if task.device.type == "cpu" else _DEVICE_CHECK_EVERY

    def finish(self, choice: Choice) -> FitResult:
        """Train the epochs that are left; report the choice whether to compile."""
        checkpoint = self._resume()
        epochs, resumed_from = self._task.config.epochs, checkpoint.epoch if checkpoint else None
        if len(self._history) < epochs:
            self._note("note", choice.note)
            self._note("warning", choice.warning)
        within = checkpoint if checkpoint and checkpoint.step else None
        for number in range(len(self._history), epochs):
            record = self._train_epoch(number, within)
            within = None
            self._history.append(record)
            self._save(self._snapshot())
            values = {"loss": record.loss, "lr": record.lr, "record": record}
            self._emit("epoch", number + 1, self._steps, **values)
        if self._stepper.average is not None:
            self._stepper.average.give(self._task.network)
        history, notes = tuple(self._history), tuple(self._notes)
        compiled = choice.compiled and self._stepper.problem() is None
        how = {"compiled": compiled, "graphed": self._stepper.graphed()}
        return FitResult(len(history), history, resumed_from, notes, **how)

    def _resume(self) -> Checkpoint | None:
        """Take up the newest checkpoint, which the main process reads for all, and report it."""
        store = self._store if is_main() else None
        newest, notes = (None, ()) if store is None else store.latest()
        head = broadcast(None if newest is None else newest.head())
        tensors = broadcast_tensors({} if newest is None else newest.tensors)
        checkpoint = None if head is None else Checkpoint.with_head(head, tensors)
        epoch, step = (checkpoint.epoch, checkpoint.step) if checkpoint else (0, 0)
        if checkpoint is not None:
            self._history = [EpochRecord(**record) for record in checkpoint.history]  # pyright: ignore
            self._stepper.restore(checkpoint.parts(), checkpoint.states)
            notes = (*notes, f"resumed after {self._place(epoch, step)}")
        self._emit("start", epoch, step, history=tuple(self._history))
        for note in notes:
            self._note("note", note)
        return checkpoint

    def _train_epoch(self, number: int, within: Checkpoint | None) -> EpochRecord:
        epoch = self._begin(number, within)
        tally = epoch.tally
        for images, labels in self._batches(within):
            if tally.steps == self._steps:
                raise InputError(f"the loader gives more batches than its length, {self._steps}")
            tally.add(*self._stepper.backward(images, labels))
            self._note("warning", self._stepper.problem())
            look = tally.steps % self._check_every == 0 or tally.steps == self._steps
            loss = self._look(epoch) if look else None
            rate = self._rate(number, tally.steps - 1)
            self._stepper.update(rate, number * self._steps + tally.steps - 1)
            if time.monotonic() - self._saved_at >= self._every_s:
                place = self._place(number, tally.steps)
                check_weights(self._task.network, place, self._last_good())
                self._save(self._snapshot(epoch))
            if look:
                self._emit("step", number + 1, tally.steps, loss=loss, lr=rate)
        if tally.steps < self._steps:
            message = f"the loader gave {tally.steps} batches, its length says {self._steps}"
            raise InputError(message)
        return self._end(epoch)

    def _begin(self, number: int, within: Checkpoint | None) -> _Epoch:
        """Prepare everything that an epoch depends on, again for one that was interrupted."""
        task, tally, spent_s = self._task, Tally(self._steps, self._task.device), 0.0
        if within is not None:
            tally.restore(within.parts()["tally"])
            spent_s = within.states["epoch"]["seconds"]
        start, penalty = self._start_penalty(number, within)
        seed_epoch(task.config.seed, number, rank())
        task.loader.set_epoch(number)
        task.network.train()
        return _Epoch(number, tally, time.perf_counter() - spent_s, start, penalty)

    def _start_penalty(
        self, number: int, within: Checkpoint | None
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Show the penalty the network as the epoch began with it; return that and its state."""
        network, penalty = self._task.network, self._task.penalty
        if penalty is None:
            return {}, {}
        start: dict[str, Tensor] = {}
        if within is not None:
            start = within.parts()["start"]
            network.load_state_dict(start)
            penalty.restore(within.states["start"])
        elif self._every_s < math.inf:
            start = {name: value.clone() for name, value in network.state_dict().items()}
        state = penalty.state()
        penalty.start_epoch(network.eval(), number, self._task.config.epochs)
        if within is not None:
            self._stepper.restore(within.parts(), within.states)
        return start, state

    def _batches(self, within: Checkpoint | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the epoch's batches but those of the checkpoint, whose random state follows."""
        done = 0 if within is None else within.step
        for number, (images, labels) in enumerate(self._task.loader, start=1):
            if number == 1:
                self._stepper.expect(images.shape)
            if number > done:
                yield images, labels
            elif number == done and within is not None:
                set_random_state(within.parts()["random"], self._task.device)

    def _end(self, epoch: _Epoch) -> EpochRecord:
        number, tally, network = epoch.number, epoch.tally, self._task.network
        self._stepper.share_statistics()
        place = self._place(number + 1, 0)
        check_weights(network, place, self._last_good())
        check_same(network, place)
        seconds = time.perf_counter() - epoch.began
        loss, top1, rate = tally.mean_loss(), tally.top1(), self._rate(number, self._steps - 1)
        return EpochRecord(number + 1, loss, top1, self._validate(), rate, seconds)

    def _validate(self) -> float | None:
        network, average = self._task.network, self._stepper.average
        evaluate = self._task.callbacks.evaluate
        if evaluate is None:
            return None
        network.eval()
        with torch.no_grad(), average.applied(network) if average else nullcontext():
            return broadcast(evaluate(network))

    def _look(self, epoch: _Epoch) -> float:
        """Look at the losses since the last look, and return the last."""
        number, tally = epoch.number, epoch.tally
        first = (tally.steps - 1) // self._check_every * self._check_every
        losses = tally.losses(first)
        places = [
            f"{self._place(number, step + 1)} (learning rate {self._rate(number, step):.3g})"
            for step in range(first, tally.steps)
        ]
        check_losses(losses, places, self._last_good())
        return losses[-1]

    def _rate(self, epoch: int, step: int) -> float:
        return learning_rate(epoch * self._steps + step, self._task.steps, self._task.config)

    def _place(self, epochs: int, step: int) -> str:
        """Name a place in words, given the epochs finished and the steps done in the next."""
        return f"epoch {epochs + 1}, step {step} of {self._steps}" if step else f"epoch {epochs}"

    def _last_good(self) -> Path | None:
        return None if self._store is None else self._store.newest()

    def _save(self, checkpoint: Checkpoint) -> None:
        if self._store is not None and is_main():
            self._store.save(checkpoint)
        self._saved_at = time.monotonic()

    def _snapshot(self, epoch: _Epoch | None = None) -> Checkpoint:
        """Collect the state after the last epoch, or within one."""
        tensors, states, step = self._stepper.tensors(), self._stepper.states(), 0
        if epoch is not None:
            within = {
                "tally": epoch.tally.tensors(),
                "start": epoch.start,
                "random": random_state(self._task.device),
            }
            tensors |= {
                f"{part}.{n}": t for part, named in within.items() for n, t in named.items()
            }
            states["start"] = epoch.penalty
            states["epoch"] = {"seconds": time.perf_counter() - epoch.began}
            step = epoch.tally.steps
        history = [asdict(record) for record in self._history]
        return Checkpoint(len(self._history), tensors, history, step, states)

    def _note(self, kind: EventKind, note: str | None) -> None:
        """Send a note or warning once, and keep it for the result."""
        if note is not None and note not in self._notes:
            self._notes.append(note)
            self._emit(kind, len(self._history), 0, note=note)

    def _emit(self, kind: EventKind, epoch: int, step: int, **more: object) -> None:
        on_event = self._task.callbacks.on_event
        if on_event is not None and is_main():
            epochs = self._task.config.epochs
            event = TrainEvent(kind, epoch, epochs, step, self._steps, **more)  # pyright: ignore
            on_event(event)
