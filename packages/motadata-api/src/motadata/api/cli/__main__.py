"""`python -m motadata.api.cli` is `motadata`."""

from __future__ import annotations

from motadata.api.cli import main


if __name__ == "__main__":
    main()
