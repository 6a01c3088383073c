"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from nnslim.errors import InputError

__all__ = ["check_place", "new_file", "replacing"]


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a hidden name beside ``path``; what was written there takes its place in one step.

    The bytes are on disk before the name is. After an exception, ``path`` is what it was before
    and nothing is left beside it.

    Raises:
        OSError: The file cannot be written; also when the block wrote none.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(place) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> place.read_text(), [entry.name for entry in place.parent.iterdir()]
        ('whole', ['a.txt'])
    """
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path) -> Generator[Path]:
    """Like ``replacing``, for a file that the user named.

    Raises:
        InputError: The file cannot be written.

    Example:
        >>> with new_file(Path("missing") / "a.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        Traceback (most recent call last):
        nnslim.errors.InputError: missing/a.txt: cannot be written: No such file or directory
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def check_place(path: Path) -> None:
    """Refuse a place where no file can be, before work is done for it.

    Raises:
        InputError: The folder is missing, or ``path`` is a folder.

    Example:
        >>> check_place(Path("missing") / "net.onnx")
        Traceback (most recent call last):
        nnslim.errors.InputError: missing: no such folder; make it, or choose another
    """
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder", hint="make it, or choose another")
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file", hint="add a file name")
