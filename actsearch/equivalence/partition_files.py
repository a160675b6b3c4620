"""Partitions on disk: one `.npz` with the arrays and, as JSON, the rest. No pickles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from actsearch.equivalence import archives
from actsearch.equivalence.batches import points
from actsearch.equivalence.certificate import Certificate
from actsearch.equivalence.congruence import POOL, Partition
from actsearch.equivalence.streams import Arm
from actsearch.equivalence.term_tables import Place, Shape, Term, TermTable
from actsearch.equivalence.terms import TermBuilder
from actsearch.grammar.errors import UsageError
from actsearch.grammar.search_space import SearchSpace

FORMAT = 1


def save_partition(found: Partition, path: str | Path) -> Path:
    """Write a partition to a `.npz` file and return its path.

    Raises:
        UsageError: another suffix.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise UsageError(f"a partition is saved as .npz, not as {path.name!r}")
    space = found.space
    arrays: dict[str, Any] = {"rows": found.numbers, "roots": found.roots}
    tables = []
    for number, table in enumerate(found.builder.tables.values()):
        for place, numbers in enumerate(table.numbers):
            arrays[f"table_{number}_{place}"] = numbers
        tables.append(_table_data(table))
    data = {
        "format": FORMAT,
        "space": [space.text, space.name, space.units, space.source],
        "scope": space.scope,
        "prefix": found.prefix,
        "shapes": [_shape_data(shape) for shape in found.shapes],
        "arms": [[arm.shape, arm.free, arm.others, arm.weight] for arm in found.arms],
        "big": found.big.place,
        "tables": tables,
        "splits": [[place, *terms] for place, *terms in found.builder.splits],
        "seconds": found.seconds,
        "history": found.history,
        "seed": found.builder.pool.seed,
    }
    arrays["data"] = np.frombuffer(json.dumps(data).encode(), dtype=np.uint8)
    temporary = path.with_name(path.name + ".part.npz")
    np.savez(temporary, allow_pickle=False, **arrays)
    temporary.replace(path)
    return path


def _shape_data(shape: Shape) -> list[Any]:
    return [shape.production.number, list(shape.sizes)]


def _table_data(table: TermTable) -> dict[str, Any]:
    certificates: dict[Certificate, int] = {}
    links = [
        [first, second, certificates.setdefault(certificate, len(certificates))]
        for first, second, certificate in table.links
    ]
    return {
        "place": table.place,
        "shapes": [_shape_data(shape) for shape in table.shapes],
        "firsts": table.firsts,
        "counts": table.counts,
        "links": links,
        "certificates": [certificate.to_dict() for certificate in certificates],
    }


def load_partition(path: str | Path) -> Partition:
    """What `save_partition` wrote.

    Raises:
        UsageError: not such a file, or of another version.
    """
    path = Path(path)
    try:
        with archives.opened(path) as arrays:
            data = json.loads(arrays["data"].tobytes())
            if data["format"] != FORMAT:
                raise ValueError(f"of format {data['format']}, this is format {FORMAT}")
            return _partition(data, arrays)
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, OSError, BadZipFile) as error:
        raise UsageError(f"{path} holds no partition: {error}") from None


def _partition(data: dict[str, Any], arrays: Any) -> Partition:
    text, name, units, source = data["space"]
    space = SearchSpace(text, name, units, source=source, parameters="shared", scope=data["scope"])
    builder = TermBuilder(space, points(*POOL, data["seed"]))
    productions = space.grammar.productions

    def shape(row: list[Any]) -> Shape:
        return Shape(productions[row[0]], tuple(row[1]))

    def term(row: list[Any]) -> Term:
        return int(row[0]), tuple(row[1])

    for number, row in enumerate(data["tables"]):
        place: Place = tuple(row["place"])
        certificates = [Certificate.from_dict(item) for item in row["certificates"]]
        builder.tables[place] = TermTable(
            place,
            tuple(map(shape, row["shapes"])),
            [arrays[f"table_{number}_{i}"] for i in range(len(row["shapes"]))],
            [term(first) for first in row["firsts"]],
            row["counts"],
            [(term(a), term(b), certificates[reason]) for a, b, reason in row["links"]],
        )
    builder.splits = {(tuple(p), term(a), term(b)) for p, a, b in data["splits"]}
    shapes = tuple(map(shape, data["shapes"]))
    arms = tuple(
        Arm(number, builder.template(shapes[number].production), free, tuple(others), weight)
        for number, free, others, weight in data["arms"]
    )
    return Partition(
        space,
        builder,
        tuple(data["prefix"]),
        shapes,
        arms,
        builder.tables[tuple(data["big"])],
        arrays["rows"],
        arrays["roots"],
        data["seconds"],
        tuple((what, seconds) for what, seconds in data["history"]),
    )
