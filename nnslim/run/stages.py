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

_IDENTITY = "identity.json"

Record: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class Stages:
    """The stages of one run in one directory.

    Attributes:
        directory: Where they are kept; None keeps nothing.
        identity: What must be equal for them to belong to this run, by readable name.
        operators: The network's own operators, which a file of it does not hold.
    """

    directory: Path | None
    identity: Mapping[str, object]
    operators: CustomRules = field(default_factory=dict)

    def begin(self) -> None:
        """Mark the directory as this run's, before its first stage.

        Raises:
            ConfigError: It belongs to another run; names what differs.
        """
        if self.directory is None:
            return
        place = self.directory / _IDENTITY
        if is_main() and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json(place, {"identity": dict(self.identity), "record": {}})
        barrier()
        self._read(place)

    def begun(self, prefix: str) -> set[str]:
        """Names of the stages with this prefix that have left anything behind."""
        found = self.directory.glob(f"{prefix}*") if self.directory else ()
        return {path.name if path.is_dir() else path.stem for path in found}

    def run(
        self,
        name: str,
        compute: Callable[[Path | None], tuple[Network, Record]],
        *,
        together: bool = False,
    ) -> tuple[Network, Record]:
        """Return a stage's network and record: as an earlier run left them, or computed now.

        Args:
            name: Of the stage; unique in the run.
            compute: Called with the directory for the stage's own training checkpoints.
            together: Of several processes, all compute, as in training; else the main one does,
                and the others wait for what it writes.

        Raises:
            ConfigError: What is there belongs to another run; names what differs. Several
                processes without a directory.
        """
        if self.directory is None:
            if world_size() > 1:
                raise ConfigError("a run in several processes needs a directory for its stages")
            return compute(None)
        place, file = self.directory / f"{name}.json", self.directory / f"{name}.safetensors"
        if not broadcast(place.exists()):
            training = self.directory / name
            if together:
                network, record = compute(training)
            else:
                network, record = by_main(lambda: compute(training)) or (None, {})
            if is_main():
                assert network is not None
                self._write(place, file, network, record)
                shutil.rmtree(training, ignore_errors=True)
            barrier()
        # What an interrupted run would load is what this one goes on with, bit for bit.
        return load_network(file, self.operators), self._read(place)

    def _write(self, place: Path, file: Path, network: Network, record: Record) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_network(network, file)
        write_json(place, {"identity": dict(self.identity), "record": record})

    def _read(self, place: Path) -> Record:
        found = cast("dict[str, Record]", json.loads(place.read_text(encoding="utf-8")))
        now = cast("Record", json.loads(json.dumps(dict(self.identity))))
        there = found["identity"]
        differing = [key for key in {**now, **there} if now.get(key) != there.get(key)]
        if differing:
            raise ConfigError(
                f"{place} belongs to another run, which differs in {', '.join(differing)}",
                hint="use its settings, or start anew with --overwrite instead of --resume",
            )
        return found["record"]
