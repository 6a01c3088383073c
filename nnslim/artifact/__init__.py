"""What nnslim writes and reads: the network file and the run directory."""

from __future__ import annotations

from nnslim.artifact.directory import write_page
from nnslim.artifact.network_file import is_network_file, load_network, save_network

__all__ = ["is_network_file", "load_network", "save_network", "write_page"]
