"""Evaluators: the value of an expression at given points, in float64 or to many digits.

Outside of the domain the value is nan. In float64 a pole and an overflow give ±inf, as IEEE 754
has it; with many digits nothing overflows, and a pole is a point where the value is undefined: nan.
(What exceeds exp(2^4096) is taken as that number, and its reciprocal likewise.)
Floats propose; what has to be certain is decided with many digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from actsearch.grammar.errors import did_you_mean
from actsearch.grammar.expression import (
    Apply,
    Constant,
    Expression,
    Input,
    Number,
    Parameter,
)
from actsearch.grammar.language import as_expression
from actsearch.grammar.operators import CONSTANTS, OPERATORS

BACKENDS = ("numpy", "mpmath")
_VAST = 4096  # bits of an exponent's size, beyond which digits of ln 2 alone take minutes


def evaluate(
    expression: str | Expression,
    values: Mapping[str, ArrayLike],
    backend: str = "numpy",
    digits: int = 50,
) -> Any:
    """The values of an expression at points.

    Args:
        expression: an expression, or its text.
        values: an array or a number for each input and, where it shall not have its initial value,
            for each parameter, by name; they broadcast against each other.
        backend: "numpy" (float64) or "mpmath" (`digits` decimal digits).
        digits: working precision of "mpmath".

    Returns:
        An array of the broadcast shape, float64 or of mpmath numbers; nan where the expression is
        undefined.

    Raises:
        KeyError: an input has no value, or a name does not occur in the expression.
        ValueError: no such backend.
    """
    expression = as_expression(expression)
    if backend not in BACKENDS:
        raise ValueError(f"no backend {backend!r}{did_you_mean(backend, BACKENDS)}")
    _check_names(expression, values)
    if backend == "numpy":
        return evaluate_numpy(expression, values)
    return _evaluate_mpmath(expression, values, digits)


def _check_names(expression: Expression, values: Mapping[str, ArrayLike]) -> None:
    inputs = {node.name for node in expression.inputs}
    known = inputs | {node.name for node in expression.parameters}
    if missing := inputs - set(values):
        raise KeyError(f"no value for the input {', '.join(sorted(missing))}")
    # "x" may always be given: a constant function has a value at every x.
    for name in values:
        if name not in known and name != "x":
            raise KeyError(f"{name!r} does not occur in {expression}{did_you_mean(name, known)}")


def evaluate_numpy(expression: Expression, values: Mapping[str, ArrayLike]) -> Any:
    """`evaluate` in float64 without its checks, for inner loops."""
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
    functions = _numpy_functions()

    def visit(node: Expression, arguments: tuple[Any, ...]) -> Any:
        if isinstance(node, Apply):
            return functions[node.operator.name](*arguments)
        if isinstance(node, Number):
            return np.float64(float(node.value))
        if isinstance(node, Constant):
            return np.float64(CONSTANTS[node.name])
        assert isinstance(node, Input | Parameter)
        if node.name in arrays:
            return arrays[node.name]
        assert isinstance(node, Parameter)
        return np.float64(node.initial)

    with np.errstate(all="ignore"):
        result = expression.fold(visit)
    shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    return np.broadcast_to(result, shape).copy()


def apply_numpy(name: str, *operands: Any) -> Any:
    """One operator of the table on float64 arrays."""
    return _numpy_functions()[name](*operands)


def _covering(backend: str, functions: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """The functions of a backend, once every operator of the table has one."""
    missing = set(OPERATORS) - set(functions)
    if missing:
        raise NotImplementedError(f"{backend} has no line for {', '.join(sorted(missing))}")
    return functions


@cache
def _numpy_functions() -> dict[str, Any]:
    from scipy import special

    def sinc(a: Any) -> Any:
        return np.where(a == 0, 1.0, np.sin(a) / np.where(a == 0, 1.0, a))

    return _covering(
        "numpy",
        {
            "add": np.add,
            "sub": np.subtract,
            "mul": np.multiply,
            "div": np.divide,
            "neg": np.negative,
            "pow": np.power,
            "abs": np.abs,
            "sign": np.sign,
            "relu": lambda a: np.maximum(a, 0.0),
            "max": np.maximum,
            "min": np.minimum,
            "where": np.where,
            "lt": np.less,
            "le": np.less_equal,
            "gt": np.greater,
            "ge": np.greater_equal,
            "eq": np.equal,
            "ne": np.not_equal,
            "sqrt": np.sqrt,
            "cbrt": np.cbrt,
            "hypot": np.hypot,
            "exp": np.exp,
            "expm1": np.expm1,
            "log": np.log,
            "log1p": np.log1p,
            "sin": np.sin,
            "cos": np.cos,
            "tan": np.tan,
            "asin": np.arcsin,
            "acos": np.arccos,
            "atan": np.arctan,
            "sinc": sinc,
            "j1": lambda a: np.sign(a) * special.spherical_jn(1, np.abs(a)),
            "sinh": np.sinh,
            "cosh": np.cosh,
            "tanh": np.tanh,
            "asinh": np.arcsinh,
            "acosh": np.arccosh,
            "atanh": np.arctanh,
            "sigmoid": special.expit,
            "softplus": lambda a: np.logaddexp(0.0, a),
            "erf": special.erf,
            "erfc": special.erfc,
            "i0e": special.i0e,
            "i1e": special.i1e,
        },
    )


def _evaluate_mpmath(expression: Expression, values: Mapping[str, ArrayLike], digits: int) -> Any:
    import mpmath

    arrays = np.broadcast_arrays(*(np.asarray(value, dtype=object) for value in values.values()))
    shape = arrays[0].shape if arrays else ()
    count = int(np.prod(shape))
    with mpmath.workdps(digits):
        functions = _mpmath_functions()
        points = {
            name: [mpmath.mpf(value) for value in array.ravel()]
            for name, array in zip(values, arrays, strict=True)
        }

        def visit(node: Expression, arguments: tuple[list[Any], ...]) -> list[Any]:
            if isinstance(node, Apply):
                function = functions[node.operator.name]
                return [_mpmath_value(function, *row) for row in zip(*arguments, strict=True)]
            if isinstance(node, Number):
                exact = mpmath.mpf(node.value.numerator) / node.value.denominator
                return [exact] * count
            if isinstance(node, Constant):
                return [+getattr(mpmath, node.name)] * count
            assert isinstance(node, Input | Parameter)
            if node.name in points:
                return points[node.name]
            assert isinstance(node, Parameter)
            return [mpmath.mpf(repr(node.initial))] * count

        result = np.empty(count, dtype=object)
        result[:] = expression.fold(visit)
    return result.reshape(shape)


def _mpmath_value(function: Callable[..., Any], *arguments: Any) -> Any:
    """A function's value on the real line: nan where mpmath goes complex or finds a pole."""
    import mpmath

    try:
        value = function(*arguments)
    except (ValueError, ZeroDivisionError, OverflowError, mpmath.libmp.ComplexResult):
        return mpmath.nan
    if isinstance(value, mpmath.mpc):
        return mpmath.nan
    if mpmath.isinf(value) and not any(mpmath.isinf(argument) for argument in arguments):
        return mpmath.nan
    return value


@cache
def _mpmath_functions() -> dict[str, Any]:
    import mpmath as mp

    def known(*arguments: Any) -> bool:
        return not any(mp.isnan(argument) for argument in arguments)

    def comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
        return lambda a, b: compare(a, b) if known(a, b) else mp.nan

    def where(condition: Any, a: Any, b: Any) -> Any:
        if not isinstance(condition, bool):
            return mp.nan
        return a if condition else b

    def j1(a: Any) -> Any:
        if a == 0:
            return mp.mpf(0)
        with mp.extradps(2 * mp.mp.dps if abs(a) < 1 else 5):
            return mp.sin(a) / a**2 - mp.cos(a) / a

    def bounded(function: Callable[[Any], Any], bits: int = _VAST) -> Callable[[Any], Any]:
        """A function of exponential growth, whose argument is kept within 2^bits."""
        most = mp.ldexp(1, bits)
        return lambda a: function(a if abs(a) < most or not mp.isfinite(a) else mp.sign(a) * most)

    exp = bounded(mp.exp)

    def scaled_bessel(order: int, a: Any) -> Any:
        if not known(a):
            return mp.nan
        return mp.mpf(0) if mp.isinf(a) else mp.besseli(order, a) * mp.exp(-abs(a))

    return _covering(
        "mpmath",
        {
            "add": lambda a, b: a + b,
            "sub": lambda a, b: a - b,
            "mul": lambda a, b: a * b,
            "div": lambda a, b: a / b,
            "neg": lambda a: -a,
            "pow": lambda a, b: a**b,
            "abs": abs,
            "sign": mp.sign,
            "relu": lambda a: max(a, mp.mpf(0)) if known(a) else mp.nan,
            "max": lambda a, b: max(a, b) if known(a, b) else mp.nan,
            "min": lambda a, b: min(a, b) if known(a, b) else mp.nan,
            "where": where,
            "lt": comparison(lambda a, b: bool(a < b)),
            "le": comparison(lambda a, b: bool(a <= b)),
            "gt": comparison(lambda a, b: bool(a > b)),
            "ge": comparison(lambda a, b: bool(a >= b)),
            "eq": comparison(lambda a, b: bool(a == b)),
            "ne": comparison(lambda a, b: bool(a != b)),
            "sqrt": mp.sqrt,
            "cbrt": lambda a: mp.sign(a) * mp.cbrt(abs(a)),
            "hypot": mp.hypot,
            "exp": exp,
            "expm1": bounded(mp.expm1),
            "log": mp.log,
            "log1p": mp.log1p,
            "sin": mp.sin,
            "cos": mp.cos,
            "tan": mp.tan,
            "asin": mp.asin,
            "acos": mp.acos,
            "atan": mp.atan,
            "sinc": mp.sinc,
            "j1": j1,
            "sinh": bounded(mp.sinh),
            "cosh": bounded(mp.cosh),
            "tanh": bounded(mp.tanh),
            "asinh": mp.asinh,
            "acosh": mp.acosh,
            "atanh": mp.atanh,
            "sigmoid": lambda a: 1 / (1 + exp(-a)),
            "softplus": lambda a: mp.log1p(exp(a)) if a < 0 else a + mp.log1p(exp(-a)),
            "erf": mp.erf,
            "erfc": bounded(mp.erfc, _VAST // 2),
            "i0e": lambda a: scaled_bessel(0, a),
            "i1e": lambda a: scaled_bessel(1, a),
        },
    )
