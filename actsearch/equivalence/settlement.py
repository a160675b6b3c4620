"""Every merge of a partition's last step settled: proved, certified, shown false, or left open.

Classes are settled in spans that many processes can share, and that use few of the sub-terms each.
What a span found is one line of a file: whoever starts again goes on after the last line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from actsearch.equivalence.audit import split_false
from actsearch.equivalence.certificate import Certificate, Deadline, Witness, decide
from actsearch.equivalence.congruence import Partition
from actsearch.equivalence.partition_files import load_partition, save_partition
from actsearch.equivalence.row_proofs import groups_of, prove

SPAN = 4_000
"""Classes that are settled at once."""
_SECONDS = 20.0

Pair = tuple[int, int]


@dataclass
class Settled:
    """What is known of some merges.

    Attributes:
        proved: number of merges proved, by rule or method.
        certified: merges that ball arithmetic certifies.
        false: merges with a witness: the first row of the class, and the one that differs from it.
        open: merges that neither holds.
    """

    proved: Counter[str] = field(default_factory=Counter)
    certified: int = 0
    false: list[Pair] = field(default_factory=list)
    open: list[Pair] = field(default_factory=list)

    @property
    def merges(self) -> int:
        """Number of merges that were looked at."""
        return self.proved.total() + self.certified + len(self.false) + len(self.open)

    def add(self, other: Settled) -> None:
        """Take in what is known of other merges."""
        self.proved.update(other.proved)
        self.certified += other.certified
        self.false += other.false
        self.open += other.open


def settle_groups(found: Partition, groups: Sequence[Sequence[int]], seed: int = 0) -> Settled:
    """Settle the merges of some groups of rows: proofs in bulk, then pair by pair.

    Args:
        found: the partition.
        groups: rows that lie in one class; the first of each is compared with the others.
        seed: another seed, other points of the balls.
    """
    in_bulk = prove(found, groups)
    result = Settled(Counter(in_bulk.rules))
    for first, *others in in_bulk.left:
        for row in others:
            pair = found.expression(first), found.expression(row)
            decision = decide(*pair, ({},), Deadline(_SECONDS), seed)
            if isinstance(decision, Witness):
                result.false.append((first, row))
            elif not isinstance(decision, Certificate):
                result.open.append((first, row))
            elif decision.kind == "proved":
                result.proved[decision.method] += 1
            else:
                result.certified += 1
    return result


def spans(found: Partition) -> list[list[list[int]]]:
    """The classes with several rows, those with the same sub-terms side by side."""
    groups = sorted(groups_of(found), key=lambda rows: (rows[0] % len(found.big), rows[0]))
    return [groups[start : start + SPAN] for start in range(0, len(groups), SPAN)]


def settle(
    path: str | Path,
    processes: int = 1,
    progress: Callable[[int, int], object] = lambda *_: None,
    limit: int | None = None,
) -> Settled:
    """Settle all merges of a saved partition; what was found before is read, not done again.

    The lines go to a file beside the partition, with the ending `.settled.jsonl`.

    Args:
        path: what `save_partition` wrote.
        processes: that settle spans.
        progress: called with the number of spans done, and of all.
        limit: how many spans are settled at most, beyond those done before.
    """
    log = _log(path)
    done = dict(_lines(log))
    total = len(_spans(str(path)))
    waiting = [number for number in range(total) if number not in done][:limit]
    with log.open("a", encoding="utf8") as file:
        if done:
            file.write("\n")  # the last line may have been cut off
        for number, result in _settled(str(path), waiting, processes):
            done[number] = result
            file.write(json.dumps(_data(number, result)) + "\n")
            file.flush()
            progress(len(done), total)
    known = Settled()
    for result in done.values():
        known.add(result)
    return known


def settle_and_split(
    path: str | Path,
    processes: int = 1,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> tuple[Partition, Settled]:
    """Settle all merges of a saved partition, and take apart, in the file, those shown false.

    Returns:
        The partition, in which no merge is known to be false, and what is known of its merges.
    """
    log = _log(path)
    done = dict(_lines(log))
    if _WHOLE in done:
        return load_partition(path), done[_WHOLE]
    result = settle(path, processes, progress)
    found = load_partition(path)
    while result.false:
        false, result.false = result.false, []
        since = found.count
        split_false(found, false)
        fresh = groups_of(found, range(since, found.count))
        result.add(settle_groups(found, fresh))
    save_partition(found, path)
    log.write_text(json.dumps(_data(_WHOLE, result)) + "\n", "utf8")
    return found, result


_WHOLE = -1  # in the place of a span's number: nothing is left to do


def _log(path: str | Path) -> Path:
    return Path(str(path) + ".settled.jsonl")


def _lines(log: Path) -> Iterator[tuple[int, Settled]]:
    for line in log.read_text("utf8").splitlines() if log.exists() else ():
        try:
            data = json.loads(line)
        except ValueError:  # empty, or cut off while it was written
            continue
        yield (
            data["span"],
            Settled(
                Counter(data["proved"]),
                data["certified"],
                [(a, b) for a, b in data["false"]],
                [(a, b) for a, b in data["open"]],
            ),
        )


def _data(number: int, result: Settled) -> dict[str, object]:
    return {
        "span": number,
        "proved": dict(result.proved),
        "certified": result.certified,
        "false": result.false,
        "open": result.open,
    }


@cache
def _loaded(path: str) -> Partition:
    return load_partition(path)


@cache
def _spans(path: str) -> list[list[list[int]]]:
    return spans(_loaded(path))


def _settle_span(path: str, number: int) -> Settled:
    return settle_groups(_loaded(path), _spans(path)[number])


def _settled(path: str, waiting: Sequence[int], processes: int) -> Iterator[tuple[int, Settled]]:
    if processes == 1:
        for number in waiting:
            yield number, _settle_span(path, number)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_settle_span, path, number): number for number in waiting}
        for future in as_completed(futures):
            yield futures[future], future.result()
