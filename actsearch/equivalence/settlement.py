"""Every merge of a partition's last step settled: proved, certified, shown false, or left open.

First proofs in bulk, a quadrant and a span of classes at a time (`row_proofs`); then the lemmas
that the merges left need, each once (`lemmas`). What was found lies in a folder beside the
partition, a file for each piece of work: whoever starts again goes on after the last one. What
another version of the code found is not looked at.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from actsearch.equivalence.audit import settle_links
from actsearch.equivalence.congruence import Partition, partition, sharpen
from actsearch.equivalence.lemmas import (
    CERTIFIED,
    FALSE,
    Finding,
    Lemma,
    Link,
    fresh_points,
    open_links,
    settled,
    status,
)
from actsearch.equivalence.partition_files import load_partition, save_partition
from actsearch.equivalence.quadrant_rows import QuadrantRows
from actsearch.equivalence.quadrants import QUADRANTS
from actsearch.equivalence.row_proofs import RULES, Labels, groups_of, labelled, proved
from actsearch.equivalence.splitting import Refuted, split_false
from actsearch.equivalence.version import version
from actsearch.equivalence.workers import workers

SPAN = 10_000
"""Terms that are compared at once, or one class if that has more."""
LEMMAS = 500
"""Lemmas that are settled at once."""

Pair = tuple[int, int]
Progress = Callable[[int, int], object]
Lemmas = dict[Lemma, Pair]


@dataclass
class Settled:
    """What is known of some merges.

    Attributes:
        proved: number of merges proved, by rule or method.
        certified: merges that ball arithmetic certifies.
        false: rows that differ from the first one of their class.
        open: merges that neither holds.
        lemmas: number of lemmas by which those without a proof were settled.
        apart: number of rows that were false, and have been taken out of their classes.
    """

    proved: Counter[str] = field(default_factory=Counter)
    certified: int = 0
    false: list[Refuted] = field(default_factory=list)
    open: list[Pair] = field(default_factory=list)
    lemmas: int = 0
    apart: int = 0

    @property
    def merges(self) -> int:
        """Number of merges that were looked at."""
        false = sum(len(refuted.rows) for refuted in self.false)
        return self.proved.total() + self.certified + false + len(self.open)

    def add(self, other: Settled) -> None:
        """Take in what is known of other merges."""
        self.proved.update(other.proved)
        self.certified += other.certified
        self.false += other.false
        self.open += other.open
        self.lemmas += other.lemmas
        self.apart += other.apart

    def _note(self, links: Sequence[Link], known: dict[Lemma, Finding]) -> None:
        for link in links:
            state = status(link, known)
            if state == CERTIFIED:
                self.certified += 1
            elif state == FALSE:  # what is proved to equal the other row leaves its class, too
                points = (known[lemma].point for lemma in link.lemmas)
                self.false.append(
                    Refuted((link.row, *dict(link.equal)), tuple(filter(None, points)))
                )
                self.proved.subtract(RULES[rule] for _, rule in link.equal)
            else:
                self.open.append((link.first, link.row))


def _settled(found: Partition, lemmas: Sequence[tuple[Lemma, Pair]]) -> dict[Lemma, Finding]:
    """What ball arithmetic says of lemmas, quadrant by quadrant."""
    known: dict[Lemma, Finding] = {}
    for quadrant in range(len(QUADRANTS)):
        own = [(lemma, rows) for lemma, rows in lemmas if lemma[0] == quadrant]
        findings = settled(found, quadrant, [rows for _, rows in own])
        known |= {lemma: finding for (lemma, _), finding in zip(own, findings, strict=True)}
    return known


def _with_proofs(
    found: Partition, groups: Sequence[Sequence[int]], labels: Sequence[Labels]
) -> tuple[Settled, list[Link], Lemmas]:
    """What is proved of some groups, the merges left, and the lemmas that these need."""
    links: list[Link] = []
    lemmas: Lemmas = {}
    for link, needed in open_links(found, groups, labels):
        links.append(link)
        lemmas |= needed
    return Settled(proved(groups, labels).rules), links, lemmas


def spans(found: Partition, since: int = 0) -> list[list[list[int]]]:
    """Classes with several rows, from `since` on, those with the same sub-terms side by side."""
    chosen = range(since, found.count) if since else None
    groups = sorted(groups_of(found, chosen), key=lambda rows: (rows[0] % len(found.big), rows[0]))
    cuts: list[list[list[int]]] = []
    size = SPAN
    for rows in groups:
        if size + len(rows) > SPAN:
            cuts.append([])
            size = 0
        cuts[-1].append(rows)
        size += len(rows)
    return cuts


def with_certified_terms(
    found: Partition, processes: int = 1, progress: Callable[[str], object] = lambda _: None
) -> Partition:
    """A partition whose merges of sub-terms are settled, made again until none of them is false.

    Its merges of the last step are compared at 2,048 more points.

    Args:
        found: the partition; certificates are added in place.
        processes: that share the work.
        progress: called with a line about each stage.
    """
    progress("certifying the merges of sub-terms")
    while false := settle_links(found, processes):
        splits = set(found.builder.splits)
        for place, number, _ in false:
            first, second, _ = found.builder.table(place).links[number]
            splits.add((place, first, second))
        progress(f"{len(false)} of them are false; partitioning again without these")
        found = partition(found.space, processes, progress, splits=splits)
    moved = sharpen(found, threads=processes)
    progress(f"comparison at 2,048 more points: {moved} classes more")
    return found


def settle(
    path: str | Path,
    processes: int = 1,
    progress: Progress = lambda *_: None,
    limit: int | None = None,
) -> Settled:
    """Settle all merges of a saved partition; what was found before is read, not done again.

    Args:
        path: what `save_partition` wrote; the folder beside it has the ending `.settled`.
        processes: that share the work.
        progress: called with the number of pieces of work done, and of all (of one stage).
        limit: how many spans of classes are settled, evenly spread, those done before included.
    """
    folder = _folder(str(path))
    folder.mkdir(parents=True, exist_ok=True)
    total = len(_spans(str(path)))
    count = total if limit is None else min(limit, total)
    chosen = [place * total // count for place in range(count)]
    units = [(quadrant, number) for quadrant in range(len(QUADRANTS)) for number in chosen]
    waiting = [unit for unit in units if not _labels_file(folder, *unit).exists()]
    _each(partial(_label_span, str(path)), waiting, len(units), processes, progress)
    (_, result), links, lemmas = _before(str(path)), list[Link](), Lemmas()
    for number in chosen:
        labels = [_read_labels(_labels_file(folder, q, number)) for q in range(len(QUADRANTS))]
        own, more, needed = _with_proofs(_loaded(str(path)), _spans(str(path))[number], labels)
        result.add(own)
        links += more
        lemmas |= needed
    known = _known(folder)
    # those about the same sub-terms side by side: what is found of these is found once
    width = len(_loaded(str(path)).big)
    fresh = sorted(
        lemmas.keys() - known.keys(), key=lambda lemma: (lemma[0], lemmas[lemma][0] % width, lemma)
    )
    pieces = [
        [(lemma, lemmas[lemma]) for lemma in fresh[start : start + LEMMAS]]
        for start in range(0, len(fresh), LEMMAS)
    ]
    _each(partial(_settle_lemmas, str(path)), pieces, len(pieces), processes, progress)
    result._note(links, _known(folder))
    result.lemmas += len(lemmas)
    return result


def settle_and_split(
    path: str | Path, processes: int = 1, progress: Progress = lambda *_: None
) -> tuple[Partition, Settled]:
    """Settle all merges of a saved partition, and take apart, in the file, those shown false.

    What leaves a class together is settled again, until nothing is false.

    Returns:
        The partition, in which no merge is known to be false, and what is known of its merges.
    """
    whole = _folder(str(path)) / _WHOLE
    if whole.exists():
        return _loaded(str(path)), _from_data(json.loads(whole.read_text("utf8")))
    result = settle(path, processes, progress)
    while result.false:
        found = load_partition(path)
        false, result.false = result.false, []
        since = found.count
        points = (values for number in range(len(QUADRANTS)) for values in fresh_points(number))
        result.apart += split_false(found, false, points)
        after = _folder(str(path), found.count)
        after.mkdir(parents=True, exist_ok=True)
        _write(after / _BEFORE, json.dumps({"since": since, "settled": _data(result)}))
        save_partition(found, path)
        for kept in (_loaded, _spans, _rows):
            kept.cache_clear()
        result = settle(path, processes, progress)
    _write(_folder(str(path)) / _WHOLE, json.dumps(_data(result)))
    return _loaded(str(path)), result


# files


_WHOLE = "whole.json"  # what is known when nothing is left to do
_BEFORE = "before.json"  # what was known when classes were taken apart, and which ones are new


def _before(path: str) -> tuple[int, Settled]:
    """From which class on merges are to be settled, and what is known of the others."""
    file = _folder(path) / _BEFORE
    if not file.exists():
        return 0, Settled()
    data = json.loads(file.read_text("utf8"))
    return data["since"], _from_data(data["settled"])


def _folder(path: str, count: int | None = None) -> Path:
    """Where the files of a partition lie; it has another one once classes were taken apart.

    Args:
        path: the partition's.
        count: number of classes, if it is not that of the saved partition.
    """
    name = f"{count or _loaded(path).count}-{version()[:16]}"
    return Path(f"{path}.settled") / name


def _labels_file(folder: Path, quadrant: int, number: int) -> Path:
    return folder / f"labels_{quadrant}_{number}.npz"


def _write_labels(file: Path, labels: Labels) -> None:
    digests = np.frombuffer(b"".join(labels.digests.values()), dtype=np.uint8).reshape(-1, 16)
    part = file.with_suffix(".part.npz")
    np.savez(
        part,
        places=labels.places.astype(np.int32),
        rules=labels.rules.astype(np.int8),
        heads=np.array(list(labels.digests), dtype=np.int64),
        digests=digests,
    )
    part.replace(file)


def _read_labels(file: Path) -> Labels:
    with np.load(file, allow_pickle=False) as arrays:
        heads, digests = arrays["heads"].tolist(), arrays["digests"]
        return Labels(
            arrays["places"].astype(np.int64),
            arrays["rules"].astype(np.int64),
            {head: digest.tobytes() for head, digest in zip(heads, digests, strict=True)},
        )


def _known(folder: Path) -> dict[Lemma, Finding]:
    """The lemmas settled before."""
    known: dict[Lemma, Finding] = {}
    for file in folder.glob("lemmas_*.json"):
        for quadrant, first, second, state, point in json.loads(file.read_text("utf8")):
            lemma = quadrant, bytes.fromhex(first), bytes.fromhex(second)
            known[lemma] = Finding(state, tuple((name, value) for name, value in point))
    return known


def _write(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    part.write_text(text, "utf8")
    part.replace(file)


def _data(result: Settled) -> dict[str, Any]:
    """What is known of merges none of which is false any more, for JSON."""
    return {
        "proved": dict(result.proved),
        "certified": result.certified,
        "open": result.open,
        "lemmas": result.lemmas,
        "apart": result.apart,
    }


def _from_data(data: dict[str, Any]) -> Settled:
    return Settled(
        Counter(data["proved"]),
        data["certified"],
        open=[(a, b) for a, b in data["open"]],
        lemmas=data["lemmas"],
        apart=data["apart"],
    )


# pieces of work


@cache
def _loaded(path: str) -> Partition:
    return load_partition(path)


@cache
def _spans(path: str) -> list[list[list[int]]]:
    return spans(_loaded(path), _before(path)[0])


@lru_cache(maxsize=1)
def _rows(path: str, quadrant: int) -> QuadrantRows:
    return QuadrantRows(_loaded(path), QUADRANTS[quadrant])


def _label_span(path: str, unit: tuple[int, int]) -> None:
    quadrant, number = unit
    labels = labelled(_rows(path, quadrant), _spans(path)[number])
    _write_labels(_labels_file(_folder(path), quadrant, number), labels)


def _settle_lemmas(path: str, piece: Sequence[tuple[Lemma, Pair]]) -> None:
    rows = [
        (quadrant, first.hex(), second.hex(), finding.state, finding.point)
        for (quadrant, first, second), finding in _settled(_loaded(path), piece).items()
    ]
    name = "_".join(map(str, rows[0][:3]))
    _write(_folder(path) / f"lemmas_{name}.json", json.dumps(rows))


def _each(
    work: Callable[[Any], None],
    pieces: Sequence[Any],
    total: int,
    processes: int,
    progress: Progress,
) -> None:
    """Do pieces of work, which are in an order in which neighbours have much in common."""
    for done, _ in enumerate(_done(work, pieces, processes), total - len(pieces) + 1):
        progress(done, total)


def _done(work: Callable[[Any], None], pieces: Sequence[Any], processes: int) -> Iterator[None]:
    """Each process has a stretch of the pieces, and then takes from the end of another one's."""
    if processes == 1:
        yield from map(work, pieces)
        return
    cuts = [len(pieces) * number // processes for number in range(processes + 1)]
    lanes = [deque(pieces[start:end]) for start, end in itertools.pairwise(cuts)]
    with ExitStack() as stack:
        pools = [stack.enter_context(workers(1)) for _ in lanes]
        running: dict[Future[None], int] = {}

        def start_next(number: int) -> None:
            longest = max(lanes, key=len)
            if longest:
                piece = lanes[number].popleft() if lanes[number] else longest.pop()
                running[pools[number].submit(work, piece)] = number

        for number in range(processes):
            start_next(number)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                start_next(running.pop(future))
                yield
