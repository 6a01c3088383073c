"""The options that several commands share, and what they turn into."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnslim.cli.config import apply_config, config_path
from nnslim.cli.versions import version_text

if TYPE_CHECKING:
    from collections.abc import Generator

    from nnslim.cli.output import Output

__all__ = [
    "COMMAND_SETTINGS",
    "EPILOG",
    "SETTINGS",
    "Arch",
    "ArchArg",
    "Config",
    "Data",
    "Device",
    "Download",
    "InputSize",
    "Json",
    "Mean",
    "NoProgress",
    "Overwrite",
    "Quiet",
    "RequireGpu",
    "Seed",
    "Std",
    "TrustPickle",
    "Validation",
    "Verbose",
    "Version",
    "command_output",
    "option",
]

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
# Set on each command, the prefix is not extended by its name: NNSLIM_SEED reaches all of them.
COMMAND_SETTINGS = {**SETTINGS, "auto_envvar_prefix": "NNSLIM"}
EPILOG = (
    "Exit codes: 0 done; 1 a gate failed; 2 usage, configuration or input; 3 could not run; "
    "130 or 143 interrupted. Options may also come from NNSLIM_OPTION variables, nnslim.toml or "
    "[tool.nnslim] in pyproject.toml, in this order."
)

option = partial(typer.Option, show_envvar=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version_text())
        raise typer.Exit


Arch = Annotated[
    str | None,
    option(
        help="Architecture of a state dict: torchvision:resnet18, timm:NAME, cifar_resnet20, "
        "or package.module:factory, which runs your code. Without it, it is recognised.",
        metavar="NAME",
    ),
]
ArchArg = Annotated[
    list[str] | None,
    option(help="Argument for --arch, such as num_classes=10; repeatable.", metavar="K=V"),
]
TrustPickle = Annotated[
    bool,
    option(
        "--trust-pickle",
        help="Load a pickled module. This runs code from the file: trust it first.",
        allow_from_autoenv=False,  # a file or a variable must not decide to run code
    ),
]
Data = Annotated[
    str | None,
    option(
        help="A folder of class folders, an .npz file, cifar10[:ROOT] or another torchvision set, "
        "digits, or package.module:factory.",
        metavar="SPEC",
    ),
]
Download = Annotated[bool, option("--download", help="Allow a torchvision set to be downloaded.")]
InputSize = Annotated[
    str | None, option(help="Input in pixels: 224, or HEIGHTxWIDTH.", metavar="N|HxW")
]
Mean = Annotated[str | None, option(help="Mean per channel on the 0 to 1 scale.", metavar="X,X,X")]
Std = Annotated[
    str | None,
    option(help="Standard deviation per channel on the 0 to 1 scale.", metavar="X,X,X"),
]
Device = Annotated[str, option(help="Where to compute: auto, cpu, cuda or cuda:N.", metavar="NAME")]
RequireGpu = Annotated[
    bool, option("--require-gpu", help="Stop with exit code 3 if no GPU does the work.")
]
Validation = Annotated[
    int | None,
    option(
        help="So many of the training and validation images validate, and all others are trained "
        "on. [default: those that the data has, else 10 % of train and at most 5000]",
        min=0,
        metavar="N",
    ),
]
Seed = Annotated[int, option(help="Seed of everything random.", min=0)]
Overwrite = Annotated[bool, option("--overwrite", help="Replace what is at the output path.")]
Json = Annotated[bool, option("--json", help="Write the result as one JSON document.")]
Config = Annotated[
    Path | None,
    option(
        help="Read flags from this TOML file instead of the nearest nnslim.toml or pyproject.toml.",
        metavar="FILE",
        is_eager=True,
        callback=apply_config,
    ),
]
Verbose = Annotated[bool, option("--verbose", "-v", help="Say more on stderr.")]
Quiet = Annotated[bool, option("--quiet", "-q", help="Say only warnings and errors.")]
NoProgress = Annotated[bool, option("--no-progress", help="Show no progress.")]
Version = Annotated[
    bool,
    option(
        "--version",
        help="Show the versions of nnslim and of what it stands on, and exit.",
        is_eager=True,
        allow_from_autoenv=False,
        callback=_print_version,
    ),
]


@contextmanager
def command_output(context: typer.Context) -> Generator[Output]:
    """Open the output that the command's flags ask for, and keep everybody else off stdout.

    Exporters and runtimes print: inside, ``sys.stdout`` is stderr, so that the result is alone.
    """
    from nnslim.cli.output import Output, Verbosity  # rich is slow to import

    flags = context.params
    verbosity = Verbosity(
        json=flags["json"],
        verbose=flags["verbose"],
        quiet=flags["quiet"],
        progress=not flags["no_progress"],
    )
    output = Output(verbosity)
    path = config_path(context)
    if path is not None:
        output.info(f"flags not given here come from {path}")
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        # What libraries warn about concerns us, not the user; -v shows it.
        warnings.showwarning = lambda message, *_, **__: output.detail(f"warning: {message}")
        yield output
