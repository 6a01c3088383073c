"""What a notebook needs, in one obvious form each; ``import nnslim`` offers these functions.

Settings are keyword arguments with the names of the command line (``epochs=3``, ``keep=["conv1"]``)
or, with two underscores for each dot, of ``--set`` (``training__grad_clip=1.0``);
docs/reference/python.md lists them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from nnslim.artifact import save_network
from nnslim.data import Data
from nnslim.data.sources import open_data
from nnslim.errors import ConfigError
from nnslim.growing.pipeline import grow_network
from nnslim.growing.result import GrowResult
from nnslim.measure.evaluation import evaluate as evaluate_files
from nnslim.measure.results import EvalFile, EvalReport
from nnslim.models.opening import open_model
from nnslim.network import Network, trace_network
from nnslim.onnx import ExportReport, export_onnx
from nnslim.pruning.pipeline import PruneResult, prune_network
from nnslim.run.context import RunContext
from nnslim.settings.commands import EvalCommand, GrowCommand, PruneCommand
from nnslim.settings.export import ExportSettings
from nnslim.settings.grow import GrowConfig
from nnslim.settings.inputs import DataSettings
from nnslim.settings.prune import PruneConfig
from nnslim.settings.tree import settings_from

__all__ = ["evaluate", "export", "grow", "prune"]

Model = nn.Module | str | Path
Command = TypeVar("Command", PruneCommand, GrowCommand)


def prune(  # noqa: PLR0913 - keywords
    model: Model,
    data: Data | str | Path | None = None,
    budget: str | None = None,
    *,
    example: torch.Tensor | None = None,
    config: PruneConfig | None = None,
    context: RunContext | None = None,
    **settings: Any,  # noqa: ANN401 - by name, see `settings_from`
) -> PruneResult:
    """Remove channels until a budget holds, prove the cut, and recover the accuracy.

    Args:
        model: A network, a module (give an ``example``) or a file of one.
        data: Labelled images, or what ``--data`` says; without them channels go by the magnitude
            of their weights, in one cut, and nothing is trained.
        budget: Parameters that may remain: ``"50%"`` or ``"130k"``; half without another budget.
        example: Input of a module, (N, C, H, W) with N of at least 2.
        config: What holds where ``settings`` say nothing.
        context: Device, messages, checkpoints.
        settings: By name, such as ``macs="45%"``, ``epochs=3`` or ``training__grad_clip=1.0``.

    Raises:
        ConfigError: A setting is not known or cannot be used.
        InputError: Model and data cannot be read, or do not fit.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> result = prune(model, budget="50%", example=torch.zeros(2, 3, 8, 8))
        >>> result.network.n_parameters
        196
    """
    command = PruneCommand(config=config or PruneConfig())
    wanted, images, context = _opened(command, settings, budget, data, context)
    network = _network(model, example, wanted, images, context)
    return prune_network(network, images, wanted.config, context)


def grow(  # noqa: PLR0913 - keywords
    teacher: Model,
    data: Data | str | Path,
    budget: str | None = None,
    *,
    seed_network: Model | None = None,
    example: torch.Tensor | None = None,
    config: GrowConfig | None = None,
    context: RunContext | None = None,
    **settings: Any,  # noqa: ANN401 - by name, see `settings_from`
) -> GrowResult:
    """Plant channels into a small network, taught by a large one.

    Args:
        teacher: A network, a module (give an ``example``) or a file of one.
        data: Labelled images with validation images, or what ``--data`` says.
        budget: Parameters that the result may have: a share of the teacher's, or a number.
        seed_network: What is planted into; without it the teacher is narrowed.
        example: Input of modules, (N, C, H, W) with N of at least 2.
        config: What holds where ``settings`` say nothing.
        context: Device, messages, checkpoints.
        settings: By name, such as ``where="group"`` or ``training__lr=0.05``.

    Raises:
        ConfigError: A setting is not known or cannot be used, or the budget leaves no room.
        InputError: Teacher, seed and data cannot be read, or do not fit each other.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
        >>> example, few = torch.zeros(2, 1, 8, 8), {"epochs": 1, "data__subset": 256}
        >>> grow(model, "digits", "20%", example=example, **few).network.n_parameters < 1200
        True
    """
    command = GrowCommand(config=config or GrowConfig())
    wanted, images, context = _opened(command, settings, budget, data, context)
    if images is None:
        raise ConfigError("growing needs images to train on", hint="give [[data]]")
    seed = () if seed_network is None else (seed_network,)
    large, *small = (_network(own, example, wanted, images, context) for own in (teacher, *seed))
    return grow_network(large, images, wanted.config, context, *small)


def evaluate(
    files: str | Path | Network | Sequence[str | Path | Network],
    data: Data | str | Path | None = None,
    *,
    baseline: str | Path | Network | None = None,
    **settings: Any,  # noqa: ANN401 - by name, see `settings_from`
) -> EvalReport:
    """Measure accuracy, latency and size of what would ship, in onnxruntime.

    Args:
        files: Files or networks; what is not ONNX is exported first.
        data: Labelled images, or what ``--data`` says; without them accuracy is not measured.
        baseline: What the others are compared with.
        settings: By name, such as ``device="cpu"`` or ``batch_size=(1, 32)``.

    Raises:
        ConfigError: A setting is not known or cannot be used.
        InputError: A file cannot be read or does not fit the data.
        DeviceError: The GPU was required and cannot run a file.

    Example:
        >>> m = trace_network(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.ones(2, 1, 2, 2))
        >>> evaluate(m, device="cpu", latency__max_s=0.1, latency__min_s=0.1).files[0].n_parameters
        10
    """
    listed = [files] if isinstance(files, (str, Path, Network)) else list(files)
    entries = [*((own, False) for own in listed), *([(baseline, True)] if baseline else [])]
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        subjects = [
            EvalFile(_file(own, Path(folder) / f"network-{number}.safetensors"), baseline=base)
            for number, (own, base) in enumerate(entries, start=1)
        ]
        wanted = settings_from(EvalCommand(), settings)
        images = _images(data, wanted.data, wanted.config.seed, RunContext())
        return evaluate_files(subjects, images, wanted.config)


def export(
    network: nn.Module,
    path: str | Path,
    **settings: Any,  # noqa: ANN401 - by name, see `settings_from`
) -> ExportReport:
    """Write one ONNX file that computes what the network computes, or none.

    Args:
        network: From ``trace``, ``load``, ``prune`` or ``grow``.
        path: File to write.
        settings: By name: ``opset``, ``batch``, ``half`` and ``with_preprocess``.

    Raises:
        ConfigError: A setting is not known or cannot be used.
        UnsupportedModelError: The network holds something that ONNX cannot express.
        ExportMismatchError: onnxruntime computes something else; no file is left behind.
    """
    return export_onnx(network, Path(path), settings=settings_from(ExportSettings(), settings))


def _opened(
    command: Command,
    settings: dict[str, Any],
    budget: str | None,
    data: Data | str | Path | None,
    context: RunContext | None,
) -> tuple[Command, Data | None, RunContext]:
    context = context or RunContext()
    wanted = settings_from(command, settings if budget is None else {**settings, "params": budget})
    return wanted, _images(data, wanted.data, wanted.config.seed, context), context


def _file(entry: str | Path | Network, place: Path) -> Path:
    """The file of an entry; a network is written to ``place``."""
    if not isinstance(entry, Network):
        return Path(entry)
    save_network(entry, place)
    return place


def _network(
    model: Model,
    example: torch.Tensor | None,
    wanted: PruneCommand | GrowCommand,
    images: Data | None,
    context: RunContext,
) -> Network:
    if isinstance(model, Network):
        return model
    if not isinstance(model, nn.Module):
        return open_model(model, wanted.model, wanted.preprocess, images, context.sink).network
    if example is None:
        raise ConfigError("a module is traced with an example of its input", hint="give example")
    return trace_network(model, example)


def _images(
    data: Data | str | Path | None, wanted: DataSettings, seed: int, context: RunContext
) -> Data | None:
    if data is None or isinstance(data, Data):
        return data
    return open_data(replace(wanted, source=str(data)), seed, context.sink)
