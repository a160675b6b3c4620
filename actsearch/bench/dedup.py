"""Finding duplicates: our classes next to keys made by sympy and symengine, on the same names.

A key merges what it prints alike. `missed` are merges of our classes that it does not make, `false`
merges that it makes and that ball arithmetic refuses with a witness; ours are each proved or
certified. Names on which a tool takes longer than the limit keep a key of their own.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from actsearch.counts import natural, positive
from actsearch.grammar import Expression, space


class _TooSlow(Exception):
    """A tool took longer than the limit on one name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `actsearch bench dedup` takes."""
    parser.add_argument("--space", default="swish", help="default: swish")
    parser.add_argument("--units", type=positive, metavar="N", help="number of core units")
    parser.add_argument(
        "--names",
        type=natural,
        default=300,
        metavar="K",
        help="at random; 0 for all (default: 300)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit", type=float, default=5.0, metavar="S", help="seconds for one name (default: 5)"
    )


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each way to find duplicates.

    Returns:
        case; ours and floor: seconds of ours, and of the other tool; ratio: floor/ours; classes:
        how many it leaves; missed and false: merges; too_slow: names beyond the limit.
    """
    from actsearch.equivalence import deduplicate

    chosen = space(arguments.space, units=arguments.units, parameters="shared")
    indices = range(chosen.count())
    if arguments.names:
        indices = sorted(set(chosen.sample_indices(arguments.names, arguments.seed)))  # type: ignore[assignment]
    expressions = [chosen.expression(index) for index in indices]
    classes = deduplicate(expressions)
    numbers = [classes.class_of(index) for index in range(len(expressions))]
    rows: list[dict[str, Any]] = [
        {
            "case": "ActSearch",
            "ours": round(classes.seconds, 3),
            "floor": None,
            "ratio": None,
            "names": len(expressions),
            "classes": classes.count,
            "missed": len(classes.doubts),
            "false": 0,
            "too_slow": 0,
        }
    ]
    for name, key in _tools():
        begin = time.perf_counter()
        keys, slow = _keys(expressions, key, arguments.limit)
        seconds = time.perf_counter() - begin
        missed, false = _compare(expressions, numbers, keys)
        rows.append(
            {
                "case": name,
                "ours": round(classes.seconds, 3),
                "floor": round(seconds, 3),
                "ratio": round(seconds / classes.seconds, 3),
                "names": len(expressions),
                "classes": len(set(keys)),
                "missed": missed,
                "false": false,
                "too_slow": slow,
            }
        )
    return rows


def _tools() -> Iterator[tuple[str, Callable[[Expression], str]]]:
    """The tools at hand, each with the key that it makes of an expression."""
    import sympy

    from actsearch.grammar.symbolic import to_sympy

    yield "sympy expand", lambda e: str(sympy.expand(to_sympy(e, elementary=True)))
    yield "sympy simplify", lambda e: str(sympy.simplify(to_sympy(e, elementary=True)))
    try:
        engine = importlib.import_module("symengine")
    except ImportError:
        return
    yield (
        "symengine expand",
        lambda e: str(engine.expand(engine.sympify(to_sympy(e, elementary=True)))),
    )


def _keys(
    expressions: Sequence[Expression], key: Callable[[Expression], str], limit: float
) -> tuple[list[str], int]:
    found: list[str] = []
    slow = 0
    for number, expression in enumerate(expressions):
        try:
            with _limited(limit):
                found.append(key(expression))
        except _TooSlow:
            slow += 1
            found.append(f"too slow {number}")
        except Exception as error:  # whatever a foreign tool raises: the name keeps its own key
            found.append(f"{type(error).__name__} {number}")
    return found, slow


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_TooSlow` in the main thread after some seconds; elsewhere nothing limits."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return

    def stop(*_: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _compare(
    expressions: Sequence[Expression], numbers: Sequence[int], keys: Sequence[str]
) -> tuple[int, int]:
    """How many merges a key misses, and how many it makes that a witness refuses."""
    from actsearch.equivalence import equivalent

    by_class: dict[int, set[str]] = defaultdict(set)
    by_key: dict[str, dict[int, Expression]] = defaultdict(dict)
    for expression, number, key in zip(expressions, numbers, keys, strict=True):
        by_class[number].add(key)
        by_key[key].setdefault(number, expression)
    missed = sum(len(merged) - 1 for merged in by_class.values())
    false = 0
    for merged in by_key.values():
        first, *others = merged.values()
        false += sum(equivalent(first, other).equal is False for other in others)
    return missed, false
