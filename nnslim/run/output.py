"""The output directory of a long run: checked before it starts, resumable, closed with records."""

from __future__ import annotations

import json
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nnslim.artifact.card import model_card
from nnslim.artifact.directory import RunDirectory
from nnslim.artifact.manifest import RunRecord, run_manifest
from nnslim.processes import barrier, is_main
from nnslim.run.events import read_events
from nnslim.run.trainer import EVENTS

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from nnslim.run.context import RunContext

__all__ = ["Destination", "RunOutput"]


@dataclass(frozen=True)
class Destination:
    """Where the result goes, and what is recorded of the command."""

    path: Path
    overwrite: bool = False  # an earlier run there may be replaced
    resume: bool = False  # from the checkpoints of an interrupted run there
    argv: tuple[str, ...] = ()  # the command line
    inputs: tuple[Path, ...] = ()  # files that were read


class RunOutput:
    """The output directory of one run, from before its first step to its last file.

    What an earlier run left is cleared where this one does not resume it.

    Attributes:
        directory: Appears when everything in it is written.

    Raises:
        ConfigError: Nothing can be written to the destination.
    """

    def __init__(self, destination: Destination, settings: Mapping[str, object], seed: int) -> None:
        self.directory = RunDirectory(
            destination.path, overwrite=destination.overwrite, resume=destination.resume
        )
        if not destination.resume and is_main() and self.directory.checkpoint.exists():
            shutil.rmtree(self.directory.checkpoint)
        barrier()
        started = datetime.now(UTC)
        self._record = RunRecord(destination.argv, settings, seed, started, destination.inputs)

    @contextmanager
    def resumable(self, context: RunContext) -> Generator[RunContext]:
        """Yield the context with this run's checkpoints; where nothing was finished, none stay."""
        checkpoints, final = self.directory.checkpoint, self.directory.final
        try:
            yield replace(context, checkpoints=checkpoints)
        except BaseException as error:
            if is_main() and not any(checkpoints.rglob("*.safetensors")):
                shutil.rmtree(checkpoints, ignore_errors=True)
                if final.is_dir() and not any(final.iterdir()):
                    final.rmdir()
            elif isinstance(error, KeyboardInterrupt | SystemExit):  # SIGINT, SIGTERM
                context.sink.warn(f"interrupted; the same command with --resume goes on in {final}")
            raise

    def close(
        self, run: RunDirectory, report: dict[str, object], html: str, card: dict[str, object]
    ) -> None:
        """Write what stands beside the models into the entered directory."""
        if events := self._events():
            run.write_text(EVENTS, "".join(json.dumps(entry) + "\n" for entry in events))
        run.write_json("report.json", report)
        run.write_text("report.html", html)
        command = shlex.join(self._record.argv)
        run.write_text("README.md", model_card({**card, "command": command}))
        run.write_json("run.json", run_manifest(self._record, run.path))

    def _events(self) -> list[dict[str, object]]:
        """The events of all processes, oldest first."""
        logs = sorted(self.directory.checkpoint.rglob(EVENTS))
        entries = [entry for log in logs for entry in read_events(log)]
        return sorted(entries, key=lambda entry: float(str(entry.get("time", 0))))
