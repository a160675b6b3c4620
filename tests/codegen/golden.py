"""Golden files: `ACTSEARCH_ACCEPT=1 pytest tests/codegen` accepts what the code produces now."""

from __future__ import annotations

import os
from pathlib import Path

EXPECTED = Path(__file__).parent / "expected"


def check(name: str, text: str) -> None:
    """Compare a text with the file of that name under `expected/`."""
    path = EXPECTED / name
    if os.environ.get("ACTSEARCH_ACCEPT"):
        EXPECTED.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing; accept it with ACTSEARCH_ACCEPT=1"
    assert text == path.read_text(encoding="utf-8"), f"{path.name} changed; see golden.py"
