"""Act-Bench's files: trained activation functions of Bingham and Miikkulainen (2023, "Efficient
activation function optimization through surrogate modeling", arXiv 2301.05785).

The user downloads them; each is a JSON object from the name of a function, such as
"min(square(x),selu(x))", to what its training came to.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from actsearch.grammar import space
from actsearch.tasks.tables.contents import Table, TableError

_METRICS = ("val_acc", "validation_accuracy", "val_accuracy", "accuracy", "acc", "test_acc")
_LOSSES = ("val_loss", "validation_loss", "loss", "test_loss")


def read_actbench(
    path: str | os.PathLike[str], metric: str | None = None, loss: str | None = None
) -> Table:
    """A table from one of Act-Bench's files.

    Args:
        path: of the JSON file.
        metric: the key of the accuracy; where it is None, the first of the usual ones that the
            entries have. A list of several runs or epochs counts with its last element.
        loss: the key of the loss, likewise.

    Returns:
        A table with one seed, in which every function is a class of its own; accuracies in percent
        are divided by 100.

    Raises:
        TableError: the file cannot be read, or is of another form.
    """
    source = Path(path)
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(f"cannot read {source}: {error}") from None
    if not isinstance(data, dict) or not data:
        raise TableError(f"{source} is not an object from names of functions to results")
    metrics = [_value(source, name, entry, metric, _METRICS) for name, entry in data.items()]
    losses = [
        _value(source, name, entry, loss, _LOSSES, needed=False) for name, entry in data.items()
    ]
    largest = max((value for value in metrics if value is not None), default=0.0)
    scale = 100.0 if largest > 1.0 else 1.0
    return Table(
        name=source.stem,
        candidates=tuple(actbench_text(name) for name in data),
        classes=tuple(range(len(data))),
        excluded={},
        seeds=(0,),
        metrics=tuple((None if value is None else value / scale,) for value in metrics),
        losses=tuple((value,) for value in losses),
        facts={"source": source.name, "form": "Act-Bench"},
    )


def actbench_text(name: str) -> str:
    """A function's name in the language, as the space `actbench` writes it.

    Where the name is not of the form binary(unary(x), unary(x)) with operators of that space, it
    is kept, without its blanks.
    """
    plain = re.sub(r"\s+", "", name)
    found = re.fullmatch(r"(\w+)\((.+)\)", plain)
    words = _operators()
    if found is None or found[1] not in words:
        return plain
    parts = [words.get(part.removesuffix("(x)"), part) for part in _halves(found[2])]
    return f"{found[1]}({', '.join(parts)})"


def _halves(text: str) -> list[str]:
    """The arguments, parted at commas outside of parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


@cache
def _operators() -> dict[str, str]:
    """Act-Bench's name of each operator -> its text in the space's grammar, which has both."""
    pairs = re.findall(r'"([^"]*)"[^"|]*?->\s*(\w+)', space("actbench").text)
    binary = re.findall(r'"(\w+)\(" unary', space("actbench").text)
    return {alias: text for text, alias in pairs} | {name: name for name in binary}


def _value(
    source: Path,
    name: str,
    entry: Any,
    chosen: str | None,
    usual: tuple[str, ...],
    needed: bool = True,
) -> float | None:
    if not isinstance(entry, Mapping):
        entry = {usual[0]: entry}
    key = chosen or next((key for key in usual if key in entry), None)
    if key is None or key not in entry:
        if not needed:
            return None
        keys = ", ".join(map(str, entry)) or "none"
        raise TableError(f"{source}: {name!r} has no accuracy; its keys are {keys}: say metric=…")
    value = entry[key]
    while isinstance(value, list):
        value = value[-1] if value else None
    if value is None or isinstance(value, str):
        return None
    number = float(value)
    return number if abs(number) < float("inf") else None
