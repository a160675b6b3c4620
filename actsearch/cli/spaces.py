"""`actsearch space` and `actsearch dedup`: look into a search space."""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING, Any

from actsearch.cli.console import columns, emit, note
from actsearch.cli.progress import counting_bar
from actsearch.grammar import SearchSpace, space
from actsearch.grammar.errors import UsageError

if TYPE_CHECKING:
    from actsearch.equivalence import EquivalenceClasses
    from actsearch.equivalence.congruence import Partition

_LARGEST_LIST = 10_000_000  # names; beyond it `--list` would fill a disk before anyone reads it
_LARGEST_DEDUP = 20_000  # names that are grouped one by one
_LISTED = 1_000  # members of a large class that are listed


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
    from actsearch.equivalence.sampling import audit_classes

    chosen = space(arguments.space, units=arguments.units, parameters=arguments.parameters)
    if chosen.count() > _LARGEST_DEDUP:
        return _dedup_by_congruence(arguments, chosen)
    with counting_bar("grouping", chosen.count()) as advance:
        classes = deduplicate(chosen, arguments.level, progress=advance)
    summary = classes.summary()
    if arguments.output is not None:
        note(f"classes: {classes.save(arguments.output)}")
    if arguments.audit:
        with counting_bar("auditing", 2 * arguments.audit) as advance:
            summary |= audit_classes(classes, arguments.audit, progress=advance).to_dict()
    text = _summary_text(summary)
    if arguments.members is not None:
        members = _members(classes, arguments.members)
        summary |= members
        text += _members_text(members)
    emit(arguments, summary, text)
    return 0


def _dedup_by_congruence(arguments: argparse.Namespace, chosen: SearchSpace) -> int:
    """A space too large to be grouped name by name."""
    from actsearch.equivalence.sampling import audit_rows

    if arguments.parameters != "shared" or arguments.level != "function":
        raise UsageError(
            f"{chosen.name} has {chosen.count():,} names; more than {_LARGEST_DEDUP:,} are grouped "
            "only with --parameters shared and at the level function"
        )
    found = _partition(arguments, chosen)
    summary = found.summary()
    if arguments.audit and arguments.output is not None and arguments.audit >= summary["merges"]:
        found, settled = _settled(arguments)
        summary = found.summary() | settled
    elif arguments.audit:
        with counting_bar("auditing", 2 * arguments.audit) as advance:
            summary |= audit_rows(found, arguments.audit, progress=advance).to_dict()
    text = _summary_text(summary)
    if arguments.members is not None:
        which = arguments.members
        number = found.class_of(int(which) if which.isdecimal() else which)
        members = {
            "class": number,
            "representative": found.representative(number),
            "count": int(found.counts[number]),
            "members": [
                chosen[index] for index in itertools.islice(found.members(number), _LISTED)
            ],
        }
        summary |= members
        text += _members_text(members)
    emit(arguments, summary, text)
    return 0


def _partition(arguments: argparse.Namespace, chosen: SearchSpace) -> Partition:
    """The partition: the saved one of the same space if there is one, else a new one."""
    from actsearch.equivalence.congruence import partition
    from actsearch.equivalence.partition_files import load_partition, save_partition
    from actsearch.equivalence.settlement import with_certified_terms

    output = arguments.output
    if output is not None and output.exists():
        found = load_partition(output)
        if found.space != chosen:
            raise UsageError(f"{output} holds the classes of another space")
        note(f"classes: {output}, of an earlier run")
    else:
        found = partition(chosen, arguments.processes, note)
        if output is not None:
            note(f"classes: {save_partition(found, output)}")
    if arguments.audit and found.has_open_terms:
        found = with_certified_terms(found, arguments.processes, note)
        if output is not None:
            save_partition(found, output)
    return found


def _settled(arguments: argparse.Namespace) -> tuple[Partition, dict[str, Any]]:
    """Every merge of the last step proved, certified or, where it is false, taken apart."""
    from actsearch.equivalence.settlement import settle_and_split

    found, result = settle_and_split(
        arguments.output,
        arguments.processes,
        lambda done, total: note(f"settled {done} of {total} pieces of this stage"),
    )
    return found, {
        "last_step_proved": result.proved.total(),
        "last_step_proved_by": dict(result.proved.most_common()),
        "last_step_certified": result.certified,
        "last_step_lemmas": result.lemmas,
        "last_step_false": result.apart,
        "unproved": len(result.open),
    }


def _summary_text(summary: dict[str, Any]) -> str:
    return columns([(_LABELS.get(key, key), str(value)) for key, value in summary.items()], "")


def _members_text(members: dict[str, Any]) -> str:
    lines = [f"class {members['class']}: {members['representative']}"]
    return "\n\n" + "\n".join(lines + [f"  {name}" for name in members["members"]])


_LABELS = {
    "constants": "classes of constants",
    "constant_candidates": "constant candidates",
    "linear": "classes of a·x + b",
    "linear_candidates": "candidates that are a·x + b",
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
