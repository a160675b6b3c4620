"""Float values of functions on a quadrant: what a sample refutes, no proof is looked for.

Nothing rests on these values: a sample that errs costs a proof, and makes none.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.enclosures import SIZE_OF_BETA, SIZE_OF_X
from actsearch.equivalence.intervals import rounded
from actsearch.equivalence.memo import Memo
from actsearch.equivalence.polynomial import Form, Monomial
from actsearch.grammar.evaluate import apply_numpy
from actsearch.grammar.expression import Apply, Constant, Expression, Number
from actsearch.grammar.operators import CONSTANTS

Floats = NDArray[np.float64]

_COUNT = 48
ROUNDING = 1e-9
"""Relative to the terms of a sum: by how much floats may differ from true values."""
_MEMO_SIZE = 200_000

_rng = np.random.default_rng(20)
_UNKNOWN = np.full(_COUNT, np.nan)
SIZES: tuple[Floats, Floats] = (
    np.geomspace(3e-8, 60.0, _COUNT) * _rng.uniform(0.93, 1.07, _COUNT),
    _rng.permutation(np.geomspace(3e-3, 12.0, _COUNT)),
)
"""|x| and |β| of the samples."""
_LEAVES: Mapping[Expression, Floats] = dict(zip((SIZE_OF_X, SIZE_OF_BETA), SIZES, strict=True))
_values: Memo[Expression, Floats] = Memo(_MEMO_SIZE)


def signs(form: Form) -> tuple[bool, bool]:
    """Whether some sample of a form on a quadrant is > 0, and some is < 0."""
    values, sizes = _sums(form)
    with np.errstate(invalid="ignore"):
        return bool((values > sizes).any()), bool((values < -sizes).any())


def differ(a: Form, b: Form) -> bool:
    """Whether two forms on a quadrant differ at some sample."""
    (first, near), (second, far) = _sums(a), _sums(b)
    with np.errstate(invalid="ignore", over="ignore"):
        return bool((np.abs(first - second) > near + far).any())


def _sums(form: Form) -> tuple[Floats, Floats]:
    """The values of a form, and how far they may be from true ones; nan where nothing is known."""
    values, sizes = np.zeros(_COUNT), np.full(_COUNT, 1e-290)
    with np.errstate(all="ignore"):
        for product, coefficient in form.terms.items():
            term = rounded(coefficient, np.inf) * _product(product)
            values += term
            sizes += np.abs(term)
        sizes *= ROUNDING
    return values, np.where(np.isinf(sizes), np.nan, sizes)


def _product(product: Monomial) -> Floats:
    result: Floats = np.ones(_COUNT)
    for atom, k in product:
        base = _atom(atom)
        result = result * (base if k == 1 else base ** float(k))
    return result


def _atom(atom: Expression) -> Floats:
    known = _values.get(atom)
    if known is None:
        _values.make_room()
        for node in atom.postorder():
            if node not in _values:
                _values[node] = _computed(node)
        known = _values[atom]
    return known


def _computed(node: Expression) -> Floats:
    if isinstance(node, Apply):
        found = apply_numpy(node.operator.name, *(_values[a] for a in node.arguments))
        return np.where(np.isinf(found), np.nan, found)
    if isinstance(node, Number):
        return np.full(_COUNT, float(node.value))
    if isinstance(node, Constant):
        return np.full(_COUNT, CONSTANTS[node.name])
    return _LEAVES.get(node, _UNKNOWN)
