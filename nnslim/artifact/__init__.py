"""What nnslim writes and reads: the network file and the run directory."""

from __future__ import annotations

from nnslim.artifact.card import model_card
from nnslim.artifact.directory import RunDirectory, sha256_file, write_json, write_page, write_text
from nnslim.artifact.manifest import RunRecord, run_manifest
from nnslim.artifact.network_file import is_network_file, load_network, save_network

__all__ = [
    "RunDirectory",
    "RunRecord",
    "is_network_file",
    "load_network",
    "model_card",
    "run_manifest",
    "save_network",
    "sha256_file",
    "write_json",
    "write_page",
    "write_text",
]
