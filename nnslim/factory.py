"""Calls a user's ``package.module:factory`` and explains what went wrong in it."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from nnslim.errors import ConfigError

__all__ = ["call_factory", "working_directory_importable"]


def call_factory(spec: str, /, **arguments: object) -> object:
    """Import ``package.module``, call ``factory(**arguments)`` and return what it makes.

    The working directory can be imported from, as with ``python -m``.

    Args:
        spec: ``package.module:factory``; a dotted factory such as ``Zoo.small`` is followed.
        **arguments: Keyword arguments of the factory.

    Raises:
        ConfigError: The module or the factory is not there, is no function, or raises; with the
            file and line of the user's code where there is one.

    Example:
        >>> call_factory("fractions:Fraction", numerator=6, denominator=4)
        Fraction(3, 2)
    """
    module_name, _, attribute = spec.partition(":")
    with working_directory_importable():
        factory = _attribute(_import(module_name, spec), attribute, spec)
        if not callable(factory):
            raise ConfigError(f"{spec} is a {type(factory).__name__}, not a function")
        try:
            return factory(**arguments)
        # The user's code runs here and may raise anything.
        except Exception as error:
            given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            message = f"{spec}({given}) failed: {_explain(error)}"
            raise ConfigError(message, hint="run it in Python to see more") from error


@contextmanager
def working_directory_importable() -> Generator[None]:
    """Put the working directory first on ``sys.path`` for the duration of a ``with`` block."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _import(name: str, spec: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        message = f"{spec}: {name!r} is not a module name"
        raise ConfigError(message, hint="write package.module:factory")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            message = f"{spec}: there is no module {error.name!r} here or among installed packages"
            hint = "run nnslim where the module is, or install it"
            raise ConfigError(message, hint=hint) from error
        raise ConfigError(f"{spec}: importing {name} failed: {_explain(error)}") from error
    # A module's top level is the user's code too.
    except Exception as error:
        raise ConfigError(f"{spec}: importing {name} failed: {_explain(error)}") from error


def _attribute(module: ModuleType, path: str, spec: str) -> object:
    value: object = module
    for name in path.split("."):
        if not hasattr(value, name):
            near = difflib.get_close_matches(name, dir(value), n=3)
            hint = f"did you mean {', '.join(near)}?" if near else None
            raise ConfigError(f"{spec}: {module.__name__} has no {path!r}", hint=hint)
        value = getattr(value, name)
    return value


def _explain(error: Exception) -> str:
    """Type, first line and the innermost place that is not inside an installed package."""
    first = (str(error).strip().splitlines() or [""])[0]
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and "site-packages" not in path.parts and path != Path(__file__):
            return f"{text} ({path.name}:{frame.lineno})"
    return text
