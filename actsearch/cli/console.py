"""What every command prints with: JSON or text on stdout, notes and progress on stderr."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any


def emit(arguments: argparse.Namespace, data: Any, text: str) -> None:
    """Print `data` as JSON with --json, else `text`."""
    print(json.dumps(plain(data), indent=2, ensure_ascii=False) if arguments.json else text)


def note(text: str) -> None:
    """A remark for people: on stderr, so that stdout stays what was asked for."""
    print(text, file=sys.stderr)


def plain(value: Any) -> Any:
    """`value` as strict JSON can carry it: numbers that are not finite become strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def columns(rows: list[tuple[str, str]], indent: str = "  ") -> str:
    """Two columns, the first as wide as its widest entry."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{indent}{name:<{width}}  {value}".rstrip() for name, value in rows)


def significant(value: float, digits: int = 6) -> str:
    """A number for people: `digits` significant digits, ∞ for an infinity."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}g}"
