"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


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
