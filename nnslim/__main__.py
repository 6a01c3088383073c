"""``python -m nnslim`` is the ``nnslim`` command."""

from __future__ import annotations

from nnslim.cli.main import main

if __name__ == "__main__":
    main()
