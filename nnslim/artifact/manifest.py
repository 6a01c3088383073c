"""``run.json``: what was run, with what, on what, from which inputs to which outputs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from nnslim.artifact.directory import MANIFEST, SCHEMA, SUMS, sha256_file
from nnslim.version import __version__

__all__ = ["RunRecord", "git_state", "hardware", "run_manifest", "versions"]

_PACKAGES = (
    *("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu"),
    *("safetensors", "numpy", "accelerate", "timm"),
)
_GIT_SECONDS = 10


@dataclass(frozen=True)
class RunRecord:
    """What only the command knows about its run.

    Attributes:
        argv: The command line.
        arguments: Every argument with its final value, whatever it came from.
        seed: The one seed.
        started: When the run began, with a time zone.
        inputs: Files that were read; a directory is listed without a hash.
    """

    argv: tuple[str, ...]
    arguments: Mapping[str, object]
    seed: int
    started: datetime
    inputs: tuple[Path, ...] = ()


def run_manifest(
    record: RunRecord, outputs: Path, *, finished: datetime | None = None
) -> dict[str, object]:
    """Return the contents of ``run.json``, to be written after all other files.

    Without ``started_utc``, ``finished_utc`` and the hashes that follow from them, two equal runs
    on one machine have equal manifests.

    Args:
        record: What the command knows.
        outputs: Directory of the files that the run has written; each is hashed.
        finished: When the run ended; now, unless given.
    """
    ended = finished or datetime.now(UTC)
    files = (path for path in outputs.rglob("*") if path.is_file())
    written = {path.relative_to(outputs).as_posix(): path for path in files}
    return {
        "schema": f"{SCHEMA}1",
        "argv": list(record.argv),
        "arguments": dict(record.arguments),
        "seed": record.seed,
        "started_utc": _utc(record.started),
        "finished_utc": _utc(ended),
        "versions": versions(),
        "hardware": hardware(),
        "git": git_state(Path.cwd()),
        "inputs": {str(path): _hash(path) for path in record.inputs},
        "outputs": {
            name: sha256_file(path)
            for name, path in sorted(written.items())
            if name not in (MANIFEST, SUMS)
        },
    }


def versions() -> dict[str, str]:
    """Return the versions of nnslim, Python and the packages that a result depends on.

    Example:
        >>> "torch" in versions(), "python" in versions()
        (True, True)
    """
    result = {"nnslim": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            result[name] = version(name)
    if torch.version.cuda is not None:
        result["cuda"] = torch.version.cuda
    return result


def hardware() -> dict[str, object]:
    """Return what a measured time depends on: processor, usable cores, memory in bytes, GPUs."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return {
        "os": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def git_state(directory: Path) -> dict[str, object] | None:
    """Return the commit of ``directory`` and whether files differ from it; None outside git."""
    commit = _git(directory, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "modified": bool(_git(directory, "status", "--porcelain"))}


def _git(directory: Path, *arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are ours
            [program, "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _hash(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None
