"""The curve of an expression, as pieces that can be drawn without lying.

A line that joins samples would bridge jumps, poles and gaps of the domain. Here the samples are
cut there, and each piece is followed up to where it ends. (A pole at which both sides go the same
way needs no cut: the line leaves the view and comes back into it.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actsearch.grammar.evaluate import evaluate_numpy
from actsearch.grammar.expression import Expression

SPAN = (-6.0, 6.0)
SAMPLES = 1201
_CORE = 3.0  # pre-activations of a normalised network lie within ±3 almost always
_HALVINGS = 60
_JUMP = 0.1  # of a step between samples: what is left of it when the samples meet, if it is a jump
_VISIBLE = 0.01  # of the height of the view: a smaller step needs no second look

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A function over an interval.

    Attributes:
        pieces: (x, y) of each continuous piece, left to right; a piece of one sample is an
            isolated point, such as sign(x) at 0.
        view: lowest and highest y worth showing; poles and steep ends lie outside of it.
    """

    pieces: tuple[tuple[Floats, Floats], ...]
    view: tuple[float, float]


def sample(
    expression: Expression,
    values: Mapping[str, float] | None = None,
    span: tuple[float, float] = SPAN,
    within: Expression | None = None,
) -> Curve:
    """The curve of `expression` over x.

    Args:
        expression: a function of x, and of what has a value in `values`.
        values: of parameters that shall not have their initial value, and of `gate`.
        span: the interval of x.
        within: only where this is finite: a derivative ends where its function does.
    """
    fixed = dict(values or {})

    def function(x: Floats) -> Floats:
        points: dict[str, Any] = {**fixed, "x": x}
        found: Floats = evaluate_numpy(expression, points)
        if within is None:
            return found
        return np.where(np.isfinite(evaluate_numpy(within, points)), found, np.nan)

    # Rounded, so that 0 and other places where something happens are among the samples.
    x = np.round(np.linspace(*span, SAMPLES), 12) + 0.0
    y = function(x)
    view = _view(x, y)
    known = np.isfinite(y)
    height = (view[1] - view[0]) * _VISIBLE
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.abs(np.diff(y))
    edges = np.flatnonzero(known[:-1] != known[1:])
    steep = np.flatnonzero(known[:-1] & known[1:] & ~(steps <= height))
    ends = _ends(function, x, known, edges)
    breaks = _breaks(function, x, y, steep)

    pieces: list[tuple[list[float], list[float]]] = []
    unfinished = False  # whether the next sample goes on with the last piece
    for i in range(len(x)):
        if known[i]:
            if not unfinished:
                pieces.append(([], []))
                if i - 1 in ends:
                    _append(pieces[-1], *ends[i - 1])
            _append(pieces[-1], x[i], y[i])
            unfinished = True
            if i in breaks:
                left, right = breaks[i]
                _append(pieces[-1], *left)
                pieces.append(([], []))
                _append(pieces[-1], *right)
        else:
            if unfinished and i - 1 in ends:
                _append(pieces[-1], *ends[i - 1])
            unfinished = False
    return Curve(tuple((np.array(a), np.array(b)) for a, b in pieces), view)


def _append(piece: tuple[list[float], list[float]], x: float, y: float) -> None:
    if not piece[0] or x > piece[0][-1]:
        piece[0].append(float(x))
        piece[1].append(float(y))


def _ends(function: Any, x: Floats, known: Any, edges: Any) -> dict[int, tuple[float, float]]:
    """By sample before it: the last point where the function is finite, at each edge."""
    inside = np.where(known[edges], x[edges], x[edges + 1])
    outside = np.where(known[edges], x[edges + 1], x[edges])
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        finite = np.isfinite(function(middle))
        inside, outside = np.where(finite, middle, inside), np.where(finite, outside, middle)
    values = function(inside)
    return {int(i): (a, b) for i, a, b in zip(edges, inside, values, strict=True)}


def _breaks(
    function: Any, x: Floats, y: Floats, steep: Any
) -> dict[int, tuple[tuple[float, float], tuple[float, float]]]:
    """By sample before it: the points on both sides of each jump, pole or hole."""
    a, b, fa, fb = x[steep], x[steep + 1], y[steep], y[steep + 1]
    hole = np.zeros(len(steep), dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        first = np.abs(fb - fa)
        for _ in range(_HALVINGS):
            middle = (a + b) / 2
            value = function(middle)
            hole |= ~np.isfinite(value)
            left = np.abs(value - fa) > np.abs(fb - value)
            go_left, go_right = left & ~hole, ~left & ~hole
            a, fa = np.where(go_right, middle, a), np.where(go_right, value, fa)
            b, fb = np.where(go_left, middle, b), np.where(go_left, value, fb)
        broken = hole | ~(np.abs(fb - fa) <= _JUMP * first)
    return {int(steep[k]): ((a[k], fa[k]), (b[k], fb[k])) for k in np.flatnonzero(broken)}


def _view(x: Floats, y: Floats) -> tuple[float, float]:
    """The range of y to show: all of it, or, where the ends run away, its core."""
    finite = y[np.isfinite(y)]
    if not len(finite):
        return -1.0, 1.0
    low, high = _reach(y[np.isfinite(y) & (np.abs(x) <= _CORE)], finite)
    near = _reach(y[np.isfinite(y) & (np.abs(x) <= 1)], finite)
    if high - low > 100 * (near[1] - near[0]) > 0:
        low, high = near
    reach = max(high - low, 1e-9)
    full_low, full_high = min(float(finite.min()), 0.0), max(float(finite.max()), 0.0)
    if full_high - full_low <= 5 * reach:
        low, high = full_low, full_high
    else:
        low, high = max(full_low, low - reach / 2), min(full_high, high + reach / 2)
    if high - low < 1e-9:
        low, high = low - 1.0, high + 1.0
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _reach(core: Floats, otherwise: Floats) -> tuple[float, float]:
    """The interval that holds 0 and nearly all of `core`, but not its poles."""
    low, high = np.percentile(core if len(core) else otherwise, [4, 96])
    return min(float(low), 0.0), max(float(high), 0.0)
