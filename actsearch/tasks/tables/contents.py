"""What a table holds, and its file: JSON under LZMA, read without running anything."""

from __future__ import annotations

import json
import lzma
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from actsearch.grammar import ExpressionError, parse
from actsearch.grammar.errors import UsageError, did_you_mean

FORMAT = 1
SUFFIX = ".json.xz"
MOST_BYTES = 100_000_000
"""Of a table when unpacked: no file may fill the memory."""


class TableError(UsageError):
    """A table that does not exist, or a file that is none."""


@dataclass(frozen=True)
class Table:
    """The candidates of a space, and what each class of equal ones came to in training.

    Attributes:
        name: as in `table(name)`.
        candidates: the text of each, in the order of the space.
        classes: for each candidate the number of its class, -1 for one that was not trained.
        excluded: why, for the candidates that were not: by their position.
        seeds: of the children that were trained for each class.
        metrics: [class][seed], the accuracy in [0, 1]; None where that child failed.
        losses: the cross-entropy in nats, likewise.
        facts: how the table was made: command, task, recipe, space, versions, created.
    """

    name: str
    candidates: tuple[str, ...]
    classes: tuple[int, ...]
    excluded: Mapping[int, str]
    seeds: tuple[int, ...]
    metrics: tuple[tuple[float | None, ...], ...]
    losses: tuple[tuple[float | None, ...], ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sound = len(self.candidates) == len(self.classes)
        sound = sound and len(self.metrics) == len(self.losses)
        sound = sound and all(-1 <= c < len(self.metrics) for c in self.classes)
        width = len(self.seeds)
        sound = sound and all(len(row) == width for row in (*self.metrics, *self.losses))
        if not sound or not width:
            raise TableError(f"table {self.name!r} contradicts itself")

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.metrics)

    def class_of(self, candidate: str | int) -> int | None:
        """The class of a candidate, by its position or text; None for one that was not trained.

        Raises:
            TableError: there is no such candidate.
        """
        if isinstance(candidate, str):
            found = self._positions.get(candidate)
            if found is None:
                found = self._canonical_positions.get(_canonical(candidate))
            if found is None:
                raise TableError(f"table {self.name!r} has no candidate {candidate!r}")
            candidate = found
        number = self.classes[candidate]
        return None if number < 0 else number

    def mean(self, number: int) -> float | None:
        """Mean metric of a class over its seeds; None where a child failed."""
        values = [value for value in self.metrics[number] if value is not None]
        return math.fsum(values) / len(values) if len(values) == len(self.seeds) else None

    def representative(self, number: int) -> str:
        """The shortest text of a class, the first among equals."""
        return min(self.members(number), key=len)

    def members(self, number: int) -> tuple[str, ...]:
        """The candidates of a class."""
        return tuple(self.candidates[k] for k in self._members[number])

    def best(self, count: int) -> list[int]:
        """The classes with the highest means, best first; the earlier one first where they tie."""
        means = [(mean, k) for k in range(len(self)) if (mean := self.mean(k)) is not None]
        return [k for _, k in sorted(means, key=lambda item: (-item[0], item[1]))[:count]]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {text: k for k, text in reversed(list(enumerate(self.candidates)))}

    @cached_property
    def _canonical_positions(self) -> dict[str, int]:
        """By the text that the language prints, for what was written in another way."""
        return {_canonical(text): k for text, k in self._positions.items()}

    @cached_property
    def _members(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self.metrics]
        for position, number in enumerate(self.classes):
            if number >= 0:
                found[number].append(position)
        return found

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table to a file: the same bytes for the same table."""
        target = Path(path)
        data = {"format": FORMAT, **asdict(self)}
        data["excluded"] = {str(k): reason for k, reason in sorted(self.excluded.items())}
        text = json.dumps(data, separators=(",", ":"), sort_keys=True, allow_nan=False)
        packed = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            temporary.write_bytes(packed)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return target


def _canonical(text: str) -> str:
    try:
        return str(parse(text))
    except ExpressionError:
        return text


def table(name: str) -> Table:
    """A table of trained activation functions.

    Args:
        name: of one that ships (`shipped()`), or the path of a file that `Table.save` wrote.

    Raises:
        TableError: there is none, or the file is not one.
    """
    if name.endswith(SUFFIX):
        return _read(Path(name).name.removesuffix(SUFFIX), Path(name))
    known = shipped()
    if name not in known:
        hint = did_you_mean(name, known)
        listed = ", ".join(known) or "none"
        raise TableError(f"no table {name!r}; those that ship: {listed}{hint}; or a *{SUFFIX}")
    with resources.as_file(resources.files(__package__) / f"{name}{SUFFIX}") as path:
        return _read(name, path)


def shipped() -> tuple[str, ...]:
    """The names of the tables that come with ActSearch."""
    files = (entry.name for entry in resources.files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX)))


def _read(name: str, path: Path) -> Table:
    try:
        with lzma.open(path) as file:
            text = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise TableError(f"no table at {path}") from None
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise TableError(f"cannot read the table {path}: {error}") from None
    if len(text) > MOST_BYTES:
        raise TableError(f"{path} is larger than a table can be")
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise TableError(f"{path} has format {data['format']}, and {FORMAT} is read here")
        return Table(
            name=name,
            candidates=tuple(map(str, data["candidates"])),
            classes=tuple(map(int, data["classes"])),
            excluded={int(k): str(reason) for k, reason in data["excluded"].items()},
            seeds=tuple(map(int, data["seeds"])),
            metrics=_rows(data["metrics"]),
            losses=_rows(data["losses"]),
            facts=dict(data["facts"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(f"{path} is not a table: {error!r}") from None


def _rows(rows: Sequence[Sequence[Any]]) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(None if v is None else float(v) for v in row) for row in rows)
