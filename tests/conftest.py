"""What every test gets: one thread for torch, repeatable hypothesis, GPU tests skipped visibly."""

from __future__ import annotations

import os

import pytest
from hypothesis import Phase, settings

# torch reads this when it is imported, here or in a process that a test starts: the two workers
# of `make test` share two cores. It has the effect of torch.set_num_threads(1).
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=30)
# A failing network is small as it is drawn; shrinking it further takes minutes.
quick = [Phase.explicit, Phase.reuse, Phase.generate]
settings.register_profile("quick", derandomize=True, deadline=None, max_examples=30, phases=quick)
settings.register_profile("nightly", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """Keep the developer's NNSLIM_* variables away from the tests."""
    for name in [name for name in os.environ if name.startswith("NNSLIM_")]:
        monkeypatch.delenv(name)


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
