"""What several of the data tests start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.made import random_images, write_folder


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """train/ with 20 and test/ with 6 RGB images of 8x8 pixels in 2 classes."""
    root = tmp_path / "photos"
    write_folder(root / "train", random_images(20), np.arange(20) % 2)
    write_folder(root / "test", random_images(6, seed=1), np.arange(6) % 2)
    return root
