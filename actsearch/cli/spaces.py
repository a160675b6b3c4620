"""`actsearch space` and `actsearch dedup`: look into a search space."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from actsearch.cli.console import columns, emit, note
from actsearch.cli.progress import counting_bar
from actsearch.grammar import SearchSpace, space
from actsearch.grammar.errors import UsageError

if TYPE_CHECKING:
    from actsearch.equivalence import EquivalenceClasses

_LARGEST_LIST = 10_000_000  # names; beyond it `--list` would fill a disk before anyone reads it
_LARGEST_DEDUP = 200_000  # names that are grouped one by one


def show_space(arguments: argparse.Namespace) -> int:
    """Count, sample, list or index a space."""
    chosen = space(arguments.space, units=arguments.units)
    if arguments.at is not None:
        _print_names(arguments, chosen, [_index(chosen, arguments.at)])
    elif arguments.sample is not None:
        _print_names(arguments, chosen, chosen.sample_indices(arguments.sample, arguments.seed))
    elif arguments.list:
        return _list(arguments, chosen)
    else:
        data = {"space": chosen.name, "units": chosen.units, "count": chosen.count()}
        emit(arguments, data, str(chosen.count()))
    return 0


def _index(chosen: SearchSpace, index: int) -> int:
    if not 0 <= index < chosen.count():
        raise UsageError(f"an index lies between 0 and {chosen.count() - 1}, not at {index}")
    return index


def _row(chosen: SearchSpace, index: int) -> dict[str, Any]:
    return {"index": index, "name": chosen[index], "expression": str(chosen.expression(index))}


def _print_names(arguments: argparse.Namespace, chosen: SearchSpace, indices: list[int]) -> None:
    rows = [_row(chosen, index) for index in indices]
    text = columns([(str(row["index"]), row["name"]) for row in rows], indent="")
    emit(arguments, rows[0] if arguments.at is not None else rows, text)


def _list(arguments: argparse.Namespace, chosen: SearchSpace) -> int:
    if chosen.count() > _LARGEST_LIST:
        raise UsageError(
            f"{chosen.name} has {chosen.count():,} names; --list prints at most "
            f"{_LARGEST_LIST:,}. Look at it with --sample or --at"
        )
    if arguments.json:
        emit(arguments, list(chosen), "")
    else:
        for name in chosen:
            print(name)
    return 0


def dedup(arguments: argparse.Namespace) -> int:
    """Group a space into classes of equal functions."""
    from actsearch.equivalence import deduplicate

    chosen = space(arguments.space, units=arguments.units, parameters=arguments.parameters)
    if chosen.count() > _LARGEST_DEDUP:
        raise UsageError(
            f"{chosen.name} has {chosen.count():,} names; at most {_LARGEST_DEDUP:,} are grouped"
        )
    with counting_bar("grouping", chosen.count()) as advance:
        classes = deduplicate(chosen, arguments.level, progress=advance)
    summary = classes.summary()
    text = columns([(_LABELS.get(key, key), str(value)) for key, value in summary.items()], "")
    if arguments.output is not None:
        note(f"classes: {classes.save(arguments.output)}")
    if arguments.members is not None:
        members = _members(classes, arguments.members)
        summary |= members
        text += "\n\n" + "\n".join(
            [f"class {members['class']}: {members['representative']}"]
            + [f"  {name}" for name in members["members"]]
        )
    emit(arguments, summary, text)
    return 0


_LABELS = {
    "constants": "classes of constants",
    "constant_candidates": "constant candidates",
    "undefined": "classes undefined on part of [-5, 5]",
    "undefined_candidates": "candidates undefined on part of [-5, 5]",
}


def _members(classes: EquivalenceClasses, which: str) -> dict[str, Any]:
    """The class of a candidate that is given by its index or as an expression."""
    try:
        found = classes.class_of(int(which) if which.isdecimal() else which)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from None
    name = classes.name(found)
    return {
        "class": found,
        "representative": classes.representative(found),
        "name": None if name is None else name.title,
        "members": list(classes.members(found)),
    }
