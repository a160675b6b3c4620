"""Switching points: all that a line has are found, on one line as on many at once."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from actsearch.equivalence.certificate import Pair
from actsearch.equivalence.points import (
    bundled,
    lines,
    points_between,
    switching_points,
    switching_points_of,
)
from actsearch.grammar import parse, space

WINDOWS = ((-math.inf, math.inf), (0.0, math.inf), (-math.inf, 0.0), (-0.7, 3.1))


def test_lines_do_not_disturb_each_other() -> None:
    names = space("swish", units=2, parameters="shared")
    own = lines(("x", "_1"))
    found = 0
    for number, index in enumerate(names.sample_indices(12, seed=7)):
        expression = names.expression(index)
        parameters = sorted(parameter.name for parameter in expression.parameters)
        chosen = lines(("x", *parameters)) if parameters else own[:1]
        windows = tuple(WINDOWS[(number + place) % len(WINDOWS)] for place in range(len(chosen)))
        together = switching_points_of([expression], bundled(chosen, windows))
        for line, window, roots in zip(chosen, windows, together, strict=True):
            assert roots == switching_points([expression], line, window)
            found += len(roots)
    assert found > 50


def test_functions_are_compared_on_every_line_on_which_they_have_pieces() -> None:
    both = parse("max(a*x, b) + abs(x - c)"), parse("abs(x + a*b*c)")
    pair = Pair(*both)
    chosen = lines(pair.names)
    assert len(chosen) > 16
    compared = {line for line, _ in pair.between_switches()}
    assert compared == {line for line in chosen if switching_points(both, line)}


def test_roots_of_polynomials_are_those_of_their_companion_matrix() -> None:
    generator = random.Random(3)
    for line in lines(("x", "beta")):
        places = [generator.uniform(-8.0, 8.0) for _ in range(3)]
        product = "*".join(f"(x - {place:.4f}*beta)" for place in places)
        start, slope = ([float(value) for value in part] for part in (line.start, line.direction))
        whole = np.poly1d([1.0])
        for place in (float(f"{place:.4f}") for place in places):
            whole *= np.poly1d([slope[0] - place * slope[1], start[0] - place * start[1]])
        found = switching_points([parse(f"abs({product})")], line)
        for root in whole.roots:
            size = 1e-5 * (1 + abs(root))
            assert abs(root.imag) < size
            assert min(abs(root.real - place) for place in found) < size


def test_switching_points_in_a_window_are_those_of_the_line_that_lie_in_it() -> None:
    expression = parse("max(sin(3*x), x/2)*abs(x**2 - 2)")
    (line,) = lines(("x",))
    everywhere = switching_points([expression], line)
    for low, high in ((0.0, math.inf), (-math.inf, 0.0), (0.3, 1.7)):
        window = switching_points([expression], line, (low, high))
        expected = [root for root in everywhere if low <= root <= high]
        assert len(expected) >= 2
        assert window == pytest.approx(expected, abs=1e-7)
        inside = list(points_between(window, (low, high)))
        ends = [max(low, -1e3), *window, min(high, 1e3)]
        for left, right in itertools.pairwise(ends):
            assert right - left < 1e-6 or any(left < t < right for t in inside)


def test_switching_points_are_found_where_a_switch_only_touches_zero() -> None:
    (line,) = lines(("x",))
    wells = "(x - 1)**2*(x + 2.3)**2*(x - 7.7)**2 + 0*x"
    found = switching_points([parse(f"abs({wells})"), parse("abs((x - 4)**2 - 1e-9)")], line)
    narrow = (4 - 1e-9**0.5, 4 + 1e-9**0.5)
    for root in (1.0, -2.3, 7.7, *narrow):
        assert min(abs(place - root) for place in found) < 1e-6, root
