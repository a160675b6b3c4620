"""Where functions are 0 along lines, in floats, on many lines at once.

Brackets are sign changes on a dense grid, ends of definedness, and dips that reach zero; they are
cut down together, whichever line they lie on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from actsearch.grammar.evaluate import evaluate_numpy
from actsearch.grammar.expression import Expression, Input, Parameter

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Brackets = tuple[Ints, Floats, Floats]
"""Numbers of lines, and on each of these the ends t of an interval."""

MAX_ROOTS = 24
_LINEAR = np.linspace(-12.0, 12.0, 769)
_TAILS = np.geomspace(12.5, 1e7, 64)
_GRID: Floats = np.concatenate([-_TAILS[::-1], _LINEAR, _TAILS])
_MAX_DIPS = 6
_REFINE = np.linspace(0.0, 1.0, 65)
_REFINEMENTS = 4


@dataclass(frozen=True, eq=False)
class Bundle:
    """Lines `start + t·slope` that are looked at together, each for the t of a window.

    Attributes:
        names: of inputs and parameters.
        starts: of shape (lines, names).
        slopes: of shape (lines, names).
        windows: the least and the greatest t, of shape (lines, 2).
    """

    names: tuple[str, ...]
    starts: Floats
    slopes: Floats
    windows: Floats

    def moving(self, names: frozenset[str]) -> Ints:
        """The numbers of the lines along which some of the names vary."""
        chosen = [place for place, name in enumerate(self.names) if name in names]
        return np.flatnonzero(self.slopes[:, chosen].any(axis=1))

    def at(self, lines: Ints, t: Floats, names: frozenset[str]) -> dict[str, Floats]:
        """The values of some names at t, for numbers of lines that broadcast against it."""
        return {
            name: self.starts[lines, place] + t * self.slopes[lines, place]
            for place, name in enumerate(self.names)
            if name in names
        }


@lru_cache(maxsize=10_000)
def roots(function: Expression, bundle: Bundle) -> tuple[tuple[float, ...], ...]:
    """For each line the t in its window at which a function is 0, or ends to be defined."""
    found: list[list[float]] = [[] for _ in bundle.windows]
    lines, t, places = _grid(bundle, _names(function))
    if len(t):
        values = _evaluate(function, places)
        dips = _dips(lines, t, values)
        brackets = [_sign_changes(lines, t, values), *_inside_dips(function, bundle, dips)]
        own, left, right = map(np.concatenate, zip(*brackets, strict=True))
        for line, root in _refined(function, bundle, (own, left, right)):
            found[line].append(root)
    return tuple(map(tuple, found))


@lru_cache(maxsize=1_000)
def _names(function: Expression) -> frozenset[str]:
    return frozenset(
        node.name for node in function.postorder() if isinstance(node, Input | Parameter)
    )


@lru_cache(maxsize=64)
def _grid(bundle: Bundle, names: frozenset[str]) -> tuple[Ints, Floats, Mapping[str, Floats]]:
    """The t of the grid in the windows of lines along which some names vary: lines, t, values."""
    moving = bundle.moving(names)
    low, high = bundle.windows[moving].T[..., None]
    rows, columns = np.nonzero((low <= _GRID) & (high >= _GRID))
    lines, t = moving[rows], _GRID[columns]
    return lines, t, bundle.at(lines, t, names)


def _evaluate(function: Expression, places: Mapping[str, Floats]) -> Floats:
    return np.asarray(evaluate_numpy(function, places), dtype=np.float64)


def _along(function: Expression, bundle: Bundle, lines: Ints, t: Floats) -> Floats:
    """The values on lines, of shape (lines,), at some t of each, of shape (lines, places)."""
    return _evaluate(function, bundle.at(lines[:, None], t, _names(function)))


def _signs(values: Floats) -> Floats:
    """−1, 0 and 1; 2 where a value is undefined."""
    return np.where(np.isnan(values), 2.0, np.sign(values))


def _sign_changes(lines: Ints, t: Floats, values: Floats) -> Brackets:
    """Brackets of the sign changes, zeros, and ends of definedness along rows of places."""
    signs = _signs(values)
    where = np.flatnonzero((signs[1:] != signs[:-1]) & (lines[1:] == lines[:-1]))
    return lines[where], t[where], t[where + 1]


def _dips(lines: Ints, t: Floats, values: Floats) -> Brackets:
    """Brackets around places where |value| has a local minimum on the grid, without a change of
    sign.
    """
    size, signs = np.abs(values), np.sign(values)
    lowest = (size[1:-1] < size[:-2]) & (size[1:-1] < size[2:]) & (size[1:-1] > 0)
    same = (signs[1:-1] == signs[:-2]) & (signs[1:-1] == signs[2:]) & (lines[2:] == lines[:-2])
    where = np.flatnonzero(lowest & same) + 1
    where = where[_smallest(lines[where], size[where], _MAX_DIPS)]
    return lines[where], t[where - 1], t[where + 1]


def _smallest(lines: Ints, sizes: Floats, most: int) -> Ints:
    """The places of the smallest of each line, if there are many."""
    order = np.lexsort((sizes, lines))
    ranks = np.arange(len(order)) - np.searchsorted(lines[order], lines[order])
    return order[ranks < most]


def _inside_dips(function: Expression, bundle: Bundle, dips: Brackets) -> Iterator[Brackets]:
    """Brackets inside of dips: of both sides of a narrow crossing, or of the point touched."""
    lines, left, right = dips
    for _ in range(_REFINEMENTS):
        if not len(left):
            break
        t = left[:, None] + (right - left)[:, None] * _REFINE
        values = _along(function, bundle, lines, t)
        signs = _signs(values)
        changes = signs[:, 1:] != signs[:, :-1]
        rows, places = np.nonzero(changes)
        yield lines[rows], t[rows, places], t[rows, places + 1]
        rows = np.flatnonzero(~changes.any(axis=1))
        lowest = np.argmin(np.abs(values[rows]), axis=1)
        lines, left = lines[rows], t[rows, np.maximum(lowest - 1, 0)]
        right = t[rows, np.minimum(lowest + 1, t.shape[1] - 1)]


def _refined(
    function: Expression, bundle: Bundle, brackets: Brackets
) -> Iterator[tuple[int, float]]:
    """The brackets cut down to 6e-8 of their width; those nearest to 0 if a line has many."""
    near = _smallest(brackets[0], np.abs(brackets[1]), 4 * MAX_ROOTS)
    lines, left, right = brackets[0][near], brackets[1][near], brackets[2][near]
    if not len(lines):
        return
    rows = np.arange(len(lines))
    for _ in range(_REFINEMENTS):
        t = left[:, None] + (right - left)[:, None] * _REFINE
        signs = _signs(_along(function, bundle, lines, t))
        first = np.argmax(signs[:, 1:] != signs[:, :-1], axis=1)
        left, right = t[rows, first], t[rows, first + 1]
    # An exact zero of the grid ends one bracket and begins the next: keep the zero itself.
    ends = np.stack([left, right], axis=1)
    at_left, at_right = _along(function, bundle, lines, ends).T == 0
    found = np.where(at_left, left, np.where(at_right, right, (left + right) / 2))
    yield from zip(lines.tolist(), found.tolist(), strict=True)
