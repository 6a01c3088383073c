"""What each command takes: its settings, all together, in the order of its help."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnslim.settings.eval import EvalSettings, Gates, ReportSettings
from nnslim.settings.export import ExportSettings, FormatSettings, PrecisionSettings
from nnslim.settings.grow import GrowConfig
from nnslim.settings.inputs import (
    DataSettings,
    DeviceSettings,
    ModelSettings,
    PreprocessSettings,
    SeedModelSettings,
    TrainingDataSettings,
)
from nnslim.settings.option import flag, section
from nnslim.settings.prune import PruneConfig
from nnslim.settings.tree import Checked

__all__ = [
    "EvalCommand",
    "ExportCommand",
    "ExportOutput",
    "GrowCommand",
    "PruneCommand",
    "RunOutput",
    "TalkSettings",
    "settings_by_command",
]


@dataclass(frozen=True)
class TalkSettings(Checked, panel="Output"):
    """How much a command says, and in what form."""

    json: bool = flag(False, "Write the result as one JSON document.")
    verbose: bool = flag(False, "Say more on stderr.", short="v")
    quiet: bool = flag(False, "Say only warnings and errors.", short="q")
    no_progress: bool = flag(False, "Show no progress.", panel="Expert")


def _overwrite() -> Any:  # noqa: ANN401 - as `option`
    return flag(False, "Replace what is at the output path.", "overwrite", panel="Output")


@dataclass(frozen=True)
class OverwriteSettings(Checked):
    """Whether what is at the output path may go."""

    overwrite: bool = _overwrite()


@dataclass(frozen=True)
class RunOutput(Checked, panel="Output"):
    """Where a run writes to."""

    out: Path = flag(
        Path("nnslim-out"), "Directory to write the result to.", short="o", metavar="DIR"
    )
    resume: bool = flag(False, "Go on with an interrupted run in the output directory.")
    overwrite: bool = _overwrite()


@dataclass(frozen=True)
class PlanOutput(RunOutput, panel="Output"):
    """Whether a plan is all that is wanted."""

    dry_run: bool = flag(False, "Show the plan and write nothing.")
    html: Path | None = flag(
        None,
        "With --dry-run: write a page with a picture of the network, before and after.",
        metavar="FILE",
    )


@dataclass(frozen=True)
class ExportOutput(Checked):
    """Where an export writes to."""

    out: Path | None = flag(
        None, "File to write; without it, beside MODEL.", short="o", metavar="FILE", panel="Output"
    )
    overwrite: bool = _overwrite()


@dataclass(frozen=True)
class PruneCommand(Checked):
    """``nnslim prune``."""

    data: TrainingDataSettings = section(TrainingDataSettings)
    model: ModelSettings = section(ModelSettings)
    preprocess: PreprocessSettings = section(PreprocessSettings)
    config: PruneConfig = section(PruneConfig, flat=True)
    output: PlanOutput = section(PlanOutput)
    compute: DeviceSettings = section(DeviceSettings)
    talk: TalkSettings = section(TalkSettings)


@dataclass(frozen=True)
class GrowCommand(Checked):
    """``nnslim grow``."""

    teacher: Path | None = flag(
        None, "The large network that teaches.", metavar="MODEL", panel="Model and data"
    )
    data: TrainingDataSettings = section(TrainingDataSettings)
    model: ModelSettings = section(ModelSettings)
    seed_model: SeedModelSettings = section(SeedModelSettings)
    preprocess: PreprocessSettings = section(PreprocessSettings)
    config: GrowConfig = section(GrowConfig, flat=True)
    output: RunOutput = section(partial(RunOutput, out=Path("nnslim-grown")))
    compute: DeviceSettings = section(DeviceSettings)
    talk: TalkSettings = section(TalkSettings)


@dataclass(frozen=True)
class EvalCommand(Checked):
    """``nnslim eval``."""

    data: DataSettings = section(DataSettings)
    model: ModelSettings = section(ModelSettings)
    preprocess: PreprocessSettings = section(PreprocessSettings)
    reports: ReportSettings = section(ReportSettings)
    config: EvalSettings = section(EvalSettings, flat=True)
    gates: Gates = section(Gates)
    output: OverwriteSettings = section(OverwriteSettings)
    talk: TalkSettings = section(TalkSettings)


@dataclass(frozen=True)
class ExportCommand(Checked):
    """``nnslim export``."""

    data: DataSettings = section(DataSettings)
    model: ModelSettings = section(ModelSettings)
    preprocess: PreprocessSettings = section(PreprocessSettings)
    config: ExportSettings = section(ExportSettings, flat=True)
    precision: PrecisionSettings = section(PrecisionSettings)
    format: FormatSettings = section(FormatSettings)
    output: ExportOutput = section(ExportOutput)
    talk: TalkSettings = section(TalkSettings)


def settings_by_command() -> dict[str, type]:
    """Return the settings of every command, by its name."""
    return {
        "prune": PruneCommand,
        "grow": GrowCommand,
        "eval": EvalCommand,
        "export": ExportCommand,
    }
