"""What a run has finished, stage by stage, so that an interrupted one goes on from there.

A stage is a function of the network before it. Its result is written as a network file and a
record beside it, the record last: a stage whose record is there is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from nnslim.artifact import load_network, save_network
from nnslim.artifact.directory import write_json
from nnslim.errors import ConfigError
from nnslim.processes import barrier, broadcast, by_main, is_main, world_size

if TYPE_CHECKING:
    from nnslim.network.graph import CustomRules
    from nnslim.network.network import Network

__all__ = ["Record", "Stages"]

Record: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class Stages:
    """The stages of one run in one directory; None keeps nothing."""

    directory: Path | None
    identity: Mapping[str, object]  # must be equal in what belongs to the run, by readable name
    operators: CustomRules = field(default_factory=dict)  # which no network file holds

    def begin(self) -> None:
        """Mark the directory as this run's, before its first stage.

        Raises:
            ConfigError: It belongs to another run; names what differs.
        """
        if self.directory is None:
            return
        file = self.directory / "identity.json"
        if is_main() and not file.exists():
            self._write(file, {})
        barrier()
        self._read(file)

    def begun(self, prefix: str) -> set[str]:
        """Names of the stages with this prefix that have left anything behind."""
        paths = self.directory.glob(f"{prefix}*") if self.directory else ()
        return {path.name if path.is_dir() else path.stem for path in paths}

    def run(
        self,
        name: str,
        compute: Callable[[Path | None], tuple[Network, Record]],
        *,
        together: bool = False,
    ) -> tuple[Network, Record]:
        """Return a stage's network and record: as an earlier run left them, or computed now.

        ``compute`` gets the directory for checkpoints of training; the main process calls it, or
        all do ``together``. Names are unique in a run.

        Raises:
            ConfigError: What is there belongs to another run; names what differs. Several
                processes without a directory.
        """
        if self.directory is None:
            if world_size() > 1:
                raise ConfigError("a run in several processes needs a directory for its stages")
            return compute(None)
        file, weights = self.directory / f"{name}.json", self.directory / f"{name}.safetensors"
        if not broadcast(file.exists()):
            training = self.directory / name
            stage = compute(training) if together else by_main(lambda: compute(training))
            if is_main():
                assert stage is not None
                self.directory.mkdir(parents=True, exist_ok=True)
                save_network(stage[0], weights)
                self._write(file, stage[1])
                shutil.rmtree(training, ignore_errors=True)
            barrier()
        # What an interrupted run would load is what this one goes on with, bit for bit.
        return load_network(weights, self.operators), self._read(file)

    def _write(self, file: Path, record: Record) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"identity": dict(self.identity), "record": record})

    def _read(self, file: Path) -> Record:
        entry = cast("dict[str, Record]", json.loads(file.read_text(encoding="utf-8")))
        now = cast("Record", json.loads(json.dumps(dict(self.identity))))
        there = entry["identity"]
        differing = [key for key in {**now, **there} if now.get(key) != there.get(key)]
        if differing:
            raise ConfigError(
                f"{file} belongs to another run, which differs in {', '.join(differing)}",
                hint="use its settings, or start anew with [[overwrite]] instead of [[resume]]",
            )
        return entry["record"]
