"""Checkpoints of a training run: one safetensors file for each moment, the last two kept.

Everything that is not a tensor is JSON in the file's header, so a checkpoint is written by one
atomic rename: a kill at any moment leaves only whole ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nnslim.artifact.replacing import replacing
from nnslim.errors import ConfigError, InputError

__all__ = ["Checkpoint", "CheckpointStore", "Checkpoints", "fingerprint"]

_FORMAT = 2
_KEY = "nnslim_checkpoint"
_KEPT = 2
_SHOWN = 12
_HEAD = ("epoch", "history", "step", "states")


@dataclass(frozen=True)
class Checkpoints:
    """Where a training run keeps its checkpoints, and how often.

    Attributes:
        directory: Of this run, and no other; None keeps none.
        minutes: Most minutes of an epoch that a kill costs; 0 saves every step. With several
            processes, only whole epochs are saved.
    """

    directory: Path | None = None
    minutes: float = 5.0


@dataclass(frozen=True)
class Checkpoint:
    """A run after some epochs, or after some steps of the next one.

    Attributes:
        epoch: Epochs finished.
        tensors: Tensors by name; what stands before the first dot is the part they belong to.
        history: One JSON record per finished epoch.
        step: Steps done of the next epoch.
        states: Numbers by part and name, such as the state of the fp16 loss scaler.
    """

    epoch: int
    tensors: dict[str, Tensor]
    history: list[dict[str, object]]
    step: int = 0
    states: dict[str, dict[str, float]] = field(default_factory=dict)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors by part and name.

        Example:
            >>> Checkpoint(0, {"network.0.bias": torch.ones(1)}, []).parts()
            {'network': {'0.bias': tensor([1.])}}
        """
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in self.tensors.items():
            part, _, name = key.partition(".")
            parts.setdefault(part, {})[name] = tensor
        return parts

    def head(self) -> dict[str, object]:
        """Return everything but the tensors, as plain JSON values."""
        return {key: getattr(self, key) for key in _HEAD}

    @classmethod
    def with_head(cls, head: Mapping[str, object], tensors: dict[str, Tensor]) -> Checkpoint:
        """Put together what ``head`` returned and the tensors; a part that lacks is a KeyError."""
        return cls(tensors=tensors, **{key: head[key] for key in _HEAD})  # pyright: ignore


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run in one directory.

    Attributes:
        directory: Created by the first ``save``.
        identity: What must be equal for a checkpoint to belong to this run, by readable name.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     store = CheckpointStore(Path(folder), {"lr": 0.1})
        ...     path = store.save(Checkpoint(1, {"network.w": torch.ones(2)}, [{"loss": 0.5}]))
        ...     path.name, store.latest()[0].history
        ('checkpoint-00001.safetensors', [{'loss': 0.5}])
    """

    directory: Path
    identity: Mapping[str, object]

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint atomically and remove those before the last two; return its path."""
        self.directory.mkdir(parents=True, exist_ok=True)
        values = {"format": _FORMAT, "identity": dict(self.identity), **checkpoint.head()}
        tensors = {
            name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
            for name, tensor in checkpoint.tensors.items()
        }
        within = f"-{checkpoint.step:08}" if checkpoint.step else ""
        path = self.directory / f"checkpoint-{checkpoint.epoch:05}{within}.safetensors"
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={_KEY: json.dumps(values)})
        for old in self._paths()[_KEPT:]:
            old.unlink()
        return path

    def latest(self) -> tuple[Checkpoint | None, tuple[str, ...]]:
        """Return the newest checkpoint, or None, and what the user should know about the choice.

        A damaged newest file is passed over for the one before it: training from there gives the
        same result.

        Raises:
            ConfigError: The checkpoint belongs to another run; names what differs.
            InputError: There are checkpoints and none can be read.
        """
        notes: list[str] = []
        paths = self._paths()
        for path in paths:
            try:
                checkpoint, identity = _read(path)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
                notes.append(f"{path.name} is damaged and was passed over ({error})")
                continue
            self._check(path, identity)
            return checkpoint, tuple(notes)
        if paths:
            message = f"{self.directory}: none of {len(paths)} checkpoints can be read"
            raise InputError(message, hint="delete them to start again")
        return None, ()

    def newest(self) -> Path | None:
        """Return the path of the newest checkpoint, or None; it is not read."""
        return next(iter(self._paths()), None)

    def _paths(self) -> list[Path]:
        """Newest first: by epoch, then by step."""
        files = self.directory.glob("checkpoint-*.safetensors")
        return sorted(files, key=lambda path: path.stem.split("-"), reverse=True)

    def _check(self, path: Path, identity: Mapping[str, object]) -> None:
        names = [*self.identity, *(name for name in identity if name not in self.identity)]
        differing = [
            f"{name} ({_show(identity.get(name))} there, {_show(self.identity.get(name))} now)"
            for name in names
            if identity.get(name) != self.identity.get(name)
        ]
        if differing:
            message = f"{path} belongs to another run, which differs in {', '.join(differing)}"
            raise ConfigError(message, hint="use its settings, another directory, or delete it")


def fingerprint(module: nn.Module) -> str:
    """Return a hash of a module's state: names, shapes, types and every bit.

    Example:
        >>> from torch import nn
        >>> a = nn.Linear(2, 2)
        >>> fingerprint(a) == fingerprint(a), fingerprint(a) == fingerprint(nn.Linear(2, 2))
        (True, False)
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        flat = tensor.detach().to("cpu").contiguous().flatten()
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()


def _read(path: Path) -> tuple[Checkpoint, dict[str, object]]:
    with safe_open(path, framework="pt") as file:
        values = json.loads((file.metadata() or {})[_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if values["format"] != _FORMAT:
        raise ValueError(f"checkpoint format {values['format']}, expected {_FORMAT}")
    return Checkpoint.with_head(values, tensors), values["identity"]


def _show(value: object) -> str:
    return value[:_SHOWN] if isinstance(value, str) else str(value)
