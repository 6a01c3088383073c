"""The output directory of a run: complete or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from itertools import count
from pathlib import Path
from typing import Self

from nnslim.artifact.replacing import replacing
from nnslim.errors import ConfigError

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "SUMS",
    "RunDirectory",
    "sha256_file",
    "write_json",
    "write_page",
    "write_text",
]

SUMS = "SHA256SUMS"
MANIFEST = "run.json"
_CHECKPOINT = "checkpoint"
SCHEMA = "nnslim.run/"
_CHUNK_BYTES = 1 << 20


class RunDirectory:
    """A directory that appears under its name only when everything in it has been written.

    Files go to a hidden directory beside the final one, ``.NAME.tmp-PID``. Leaving the ``with``
    block writes ``SHA256SUMS`` and renames it into place; an exception or Ctrl-C removes it, and
    what was at the final place stays.

    Attributes:
        final: Where the directory will be.
        path: Where files go until then.

    Raises:
        ConfigError: The place is a file, cannot be written, or is a directory that is not empty
            without ``overwrite`` or ``resume``, or with them but not one that nnslim wrote; or a
            finished run with ``resume`` alone.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "out"
        >>> with RunDirectory(place) as run:
        ...     _ = run.write_json("report.json", {"top1_pct": 91.7})
        >>> sorted(entry.name for entry in place.iterdir())
        ['SHA256SUMS', 'report.json']
    """

    def __init__(self, path: Path | str, *, overwrite: bool = False, resume: bool = False) -> None:
        self.final = Path(path).resolve()
        self.path = self.final.parent
        self._replace, self._overwrite = overwrite or resume, overwrite
        self._check()

    @property
    def checkpoint(self) -> Path:
        """Where training checkpoints go: in the final directory, so that they outlive a kill."""
        return self.final / _CHECKPOINT

    def __enter__(self) -> Self:
        """Create the hidden directory."""
        parent, name = self.final.parent, self.final.name
        try:
            parent.mkdir(parents=True, exist_ok=True)
            if self._replace:
                _clear_killed(parent, name)
            # A killed run may have left one of the same process number.
            for attempt in count():
                suffix = f"-{attempt}" if attempt else ""
                self.path = parent / f".{name}.tmp-{os.getpid()}{suffix}"
                if not self.path.exists():
                    self.path.mkdir()
                    break
        except OSError as error:
            message = f"cannot write to {parent}: {error.strerror or error}"
            raise ConfigError(message, hint="choose another one with [[out]]") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Publish the directory, or remove it after an exception."""
        if kind is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        try:
            _write_sums(self.path)
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        self._publish()

    def file(self, name: str) -> Path:
        """Return the path of a file in the directory, for writers that take a path."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_json(self, name: str, value: object) -> Path:
        """Write a JSON document; see ``write_json``."""
        return write_json(self.file(name), value)

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file; see ``write_text``."""
        return write_text(self.file(name), text)

    def _check(self, *, ours: str | None = None) -> None:
        """Refuse a place that must not be replaced; ``ours`` is an entry that this run wrote."""
        if not self.final.name:
            raise ConfigError(f"{self.final} cannot be an output directory", hint="name a new one")
        if not self.final.exists():
            return
        if not self.final.is_dir():
            raise ConfigError(f"{self.final} is a file", hint="choose a directory with [[out]]")
        if self.final.is_mount():
            message = f"{self.final} is a mount point, which cannot be replaced in one step"
            raise ConfigError(
                message, hint=f"give a directory inside it: [[out={self.final / 'run'}]]"
            )
        entries = sorted(entry.name for entry in self.final.iterdir() if entry.name != ours)
        if entries and not self._replace:
            some = ", ".join(entries[:3]) + (", ..." if len(entries) > 3 else "")
            message = f"{self.final} is not empty ({some})"
            raise ConfigError(message, hint="use [[overwrite]], or another directory with [[out]]")
        if entries and not _is_run(self.final):
            message = f"{self.final} was not written by nnslim, so it is not overwritten"
            raise ConfigError(message, hint="empty it yourself, or choose another one with [[out]]")
        if entries and not self._overwrite and not self.checkpoint.exists():
            message = f"{self.final} holds a finished run, so there is nothing to resume"
            raise ConfigError(message, hint="use [[overwrite]] to run anew")

    def _publish(self) -> None:
        old = self.path.with_name(f"{self.path.name}.old")
        try:
            self._check(ours=_CHECKPOINT)  # somebody else may have written there
            if self.final.exists():
                self.final.rename(old)
            try:
                self.path.rename(self.final)
            except OSError:
                if old.exists():
                    old.rename(self.final)
                raise
        except (OSError, ConfigError) as error:
            message = f"the results are complete but could not be moved to {self.final}: {error}"
            raise ConfigError(message, hint=f"they are in {self.path}") from error
        shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> Path:
    """Write a file in one step: a reader sees the old text or the new, never half of it.

    Returns:
        The path.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_page(path: Path, text: str, *, overwrite: bool) -> Path:
    """Write one file, which must not be there yet unless it may be replaced.

    Raises:
        ConfigError: The file is there, or cannot be written.
    """
    if path.exists() and not overwrite:
        message = f"{path} is there already"
        raise ConfigError(message, hint="choose another name or add [[overwrite]]")
    try:
        return write_text(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def write_json(path: Path, value: object) -> Path:
    """Write a JSON document with sorted keys and a final newline; paths become text.

    Returns:
        The path.

    Raises:
        ValueError: A number is not finite, which JSON cannot say.
        TypeError: A value has no JSON form.
    """
    text = json.dumps(
        value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False, default=_plain
    )
    return write_text(path, text + "\n")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _write_sums(directory: Path) -> None:
    """What ``sha256sum -c SHA256SUMS`` reads, for every other file."""
    files = sorted(
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    )
    lines = (f"{sha256_file(directory / name)}  {name}\n" for name in files)
    write_text(directory / SUMS, "".join(lines))


def _clear_killed(parent: Path, name: str) -> None:
    """Remove what killed runs to the same place were writing; those that live keep theirs."""
    for stale in parent.glob(f".{name}.tmp-*"):
        number = stale.name.removeprefix(f".{name}.tmp-").partition("-")[0].partition(".")[0]
        if number.isdecimal() and not _is_alive(int(number)):
            shutil.rmtree(stale, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _is_run(directory: Path) -> bool:
    """Whether nnslim wrote this directory: a finished run, or one that can be resumed."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [entry.name for entry in directory.iterdir()] == [_CHECKPOINT]
    return isinstance(manifest, dict) and str(manifest.get("schema", "")).startswith(SCHEMA)
