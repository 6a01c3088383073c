"""Commands built from their settings: signature, help, one settings object out of all sources."""

from __future__ import annotations

import inspect
import platform
import sys
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import typer

from nnslim.cli.sources import Sources
from nnslim.errors import NnslimError
from nnslim.settings.commands import settings_by_command
from nnslim.settings.option import AUTO, PANELS
from nnslim.settings.tree import settings_of, with_values
from nnslim.version import __version__

if TYPE_CHECKING:
    from nnslim.cli.output import Output
    from nnslim.settings.commands import TalkSettings
    from nnslim.settings.setting import Setting

__all__ = ["EPILOG", "NO_VALUE", "Call", "Version", "add_command", "epilog"]

EPILOG = (
    "Exit codes: 0 done; 1 a gate failed; 2 usage, configuration or input; 3 could not run; "
    "130 or 143 interrupted."
)
_SOURCES = (
    "Every setting can be given by --set, in nnslim.toml (or \\[tool.nnslim] in pyproject.toml) and"
    " as NNSLIM_* variable; --settings lists them."
)

_PACKAGES = ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime")

NO_VALUE = " "  # a switch takes none, and Typer would show <bool>

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Call(Generic[Settings]):
    """One call of a command.

    Attributes:
        settings: Everything that was said, and defaults for the rest.
        arguments: The positional arguments, by name.
        sink: Where results and messages go.
        context: Closes resources when the command ends.
    """

    settings: Settings
    arguments: Mapping[str, Any]
    sink: Output
    context: typer.Context


def _print_version(wanted: bool) -> None:
    """The line that belongs in a bug report, without importing what it names."""
    if wanted:
        parts = [f"python {platform.python_version()}"]
        for name in _PACKAGES:
            with suppress(PackageNotFoundError):
                parts.append(f"{name} {version(name)}")
        typer.echo(f"nnslim {__version__} ({', '.join(parts)})")
        raise typer.Exit


def _print_help(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        typer.echo(context.get_help())
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version",
        help="Show the versions of nnslim and of what it stands on, and exit.",
        is_eager=True,
        callback=_print_version,
        metavar=NO_VALUE,
        rich_help_panel="Expert",
    ),
]
Help = Annotated[
    bool,
    typer.Option(
        "--help",
        "-h",
        help="Show this message and exit.",
        is_eager=True,
        callback=_print_help,
        expose_value=False,
        metavar=NO_VALUE,
        rich_help_panel="Output",
    ),
]
_EXTRA = {
    "set_": Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting, such as training.grad_clip=1.0; repeatable.",
            rich_help_panel="Expert",
        ),
    ],
    "list_settings": Annotated[
        bool,
        typer.Option(
            "--settings",
            help="List every setting, its value and where that comes from, and exit.",
            metavar=NO_VALUE,
            rich_help_panel="Expert",
        ),
    ],
    "config": Annotated[
        Path | None,
        typer.Option(
            help="Read settings from this TOML file instead of the nearest nnslim.toml.",
            metavar="FILE",
            envvar="NNSLIM_CONFIG",
            show_envvar=False,
            rich_help_panel="Expert",
        ),
    ],
    "version": Version,
    "help_": Help,
}


def epilog(examples: Sequence[str]) -> str:
    """Return what stands under a command's options: exit codes, sources, examples."""
    lines = "\n\n".join(f"  [bold]{example}[/bold]" for example in examples)
    return f"{EPILOG}\n\n{_SOURCES}\n\nExamples:\n\n{lines}"


def add_command(
    app: typer.Typer,
    name: str,
    body: Callable[[Call[Any]], None],
    arguments: Mapping[str, object],
    examples: Sequence[str],
) -> None:
    """Give an application a command whose options are its settings.

    Args:
        app: The application.
        name: Of the command; its settings are ``settings_by_command()[name]``.
        body: Runs the command; its docstring is the help.
        arguments: Annotations of the positional arguments.
        examples: Command lines that end the help.
    """
    settings = list(settings_of(settings_by_command()[name]))

    def function(context: typer.Context, **given: Any) -> None:  # noqa: ANN401 - as they were given
        _run(name, body, context, given)

    parameters = [_parameter("context", typer.Context, inspect.Parameter.empty)]
    parameters += [
        _parameter(own, annotation, _default(annotation)) for own, annotation in arguments.items()
    ]
    flagged = [setting for setting in settings if setting.option.flag]
    for setting in sorted(flagged, key=lambda own: PANELS.index(own.option.panel)):
        parameters.append(_parameter(setting.key, _annotation(setting), None))
    for own, annotation in _EXTRA.items():
        parameters.append(_parameter(own, annotation, None if own in {"set_", "config"} else False))
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {own.name: own.annotation for own in parameters}
    function.__doc__ = body.__doc__
    app.command(name, add_help_option=False, epilog=epilog(examples))(function)


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, keyword, annotation=annotation, default=default)


def _default(annotation: object) -> object:
    """None for an argument that may be left out."""
    return None if "None" in str(annotation) else inspect.Parameter.empty


def _annotation(setting: Setting) -> object:
    """A flag carries text, which ``Setting.read`` reads like any other source's."""
    facts = setting.option
    names = [f"--{facts.flag}", *([f"-{facts.short}"] if facts.short else [])]
    default = facts.auto
    if setting.default not in (None, False, AUTO):
        default = setting.text(setting.default)
    shown = f" \\[default: {default}]" if default else ""
    option = partial(
        typer.Option,
        *names,
        help=facts.help.replace("[", "\\[") + shown,
        show_default=False,
        show_envvar=False,
        rich_help_panel=facts.panel,
    )
    if setting.switch:
        return Annotated[bool | None, option(metavar=NO_VALUE)]
    kind = list[str] | None if setting.repeatable else str | None
    return Annotated[kind, option(metavar=setting.metavar)]


def _run(
    name: str, body: Callable[[Call[Any]], None], context: typer.Context, given: dict[str, Any]
) -> None:
    """Settle the settings, open the output and run; errors speak of what the user wrote."""
    cls = settings_by_command()[name]
    sources = Sources(name)
    try:
        values = sources.values(given, given.pop("set_") or (), given.pop("config"))
        settings = with_values(cls(), values)
        with _output(settings.talk, sources) as sink:
            if given.pop("list_settings"):
                from nnslim.cli.settings_table import show_settings

                show_settings(settings, sources, sink)
                return
            body(Call(settings, given, sink, context))
    except NnslimError as error:
        raise type(error)(*error.named(sources.name)) from error


@contextmanager
def _output(talk: TalkSettings, sources: Sources) -> Generator[Output]:
    """Open the output that the settings ask for, and keep everybody else off stdout.

    Exporters and runtimes print: inside, ``sys.stdout`` is stderr, so that the result is alone.
    """
    from nnslim.cli.output import Output

    output = Output(talk)
    if sources.file is not None:
        output.info(f"settings not given here come from {sources.file}")
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        # What libraries warn about concerns us, not the user; -v shows it.
        warnings.showwarning = lambda message, *_, **__: output.detail(f"warning: {message}")
        yield output
