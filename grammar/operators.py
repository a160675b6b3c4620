"""The operator table: every operator of the language, declared once.

The parser's function names, the sympy bridge, the evaluators, the docs and every code target are
derived from, or checked against, these rows. Derivatives are written in the language itself, over
the formal arguments `a`, `b` and `c`, in a form that stays accurate at the ends of the line. Kinks
follow PyTorch: relu'(0) = 0, |x|'(0) = 0, and a tie of max or min splits evenly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

FORMALS = ("a", "b", "c")
"""Names that stand for an operator's arguments in its derivatives and its domain."""

INF = math.inf
REALS = (-INF, INF)


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One row of the table.

    Attributes:
        name: what the parser, the printer and every target call it.
        arity: number of arguments, 1 to 3.
        description: one line for people.
        derivative: partial derivative for each argument, in the language, over a, b, c.
        domain: condition on the arguments, in the language; empty where it is defined everywhere.
        range: infimum and supremum of its values over the domain.
        limits: limits for a -> -inf and a -> +inf (unary operators); None where there is none or
            the end of the line is outside of the domain.
        cost: vectorised float32 time, in multiples of one multiplication (order of magnitude).
        latex: how it is typeset, with `{a}`, `{b}`, `{c}` as arguments.
        infix: its symbol, for operators that are written between or before their operands.
        aliases: other names that the parser accepts.
    """

    name: str
    arity: int
    description: str
    derivative: tuple[str, ...]
    domain: str = ""
    range: tuple[float, float] = REALS
    limits: tuple[float | None, float | None] = (None, None)
    cost: float = 1.0
    latex: str = ""
    infix: str = ""
    aliases: tuple[str, ...] = ()


def _table(*rows: Operator) -> Mapping[str, Operator]:
    return {row.name: row for row in rows}


_PI = math.pi

OPERATORS: Mapping[str, Operator] = _table(
    # arithmetic
    Operator("add", 2, "sum", ("1", "1"), latex="{a} + {b}", infix="+"),
    Operator("sub", 2, "difference", ("1", "-1"), latex="{a} - {b}", infix="-"),
    Operator("mul", 2, "product", ("b", "a"), latex=r"{a} \cdot {b}", infix="*"),
    Operator(
        "div", 2, "quotient", ("1/b", "-(a/b)/b"), domain="b != 0", cost=4,
        latex=r"\frac{{{a}}}{{{b}}}", infix="/",
    ),
    Operator("neg", 1, "negation", ("-1",), limits=(INF, -INF), latex="-{a}", infix="-"),
    Operator(
        "pow", 2, "power; a negative base needs a whole exponent",
        ("b*a**(b-1)", "where(a == 0, 0, a**b*log(a))"),
        domain="a > 0", cost=20, latex=r"{{{a}}}^{{{b}}}", infix="**",
    ),
    # pieces
    Operator(
        "abs", 1, "absolute value", ("sign(a)",), range=(0, INF), limits=(INF, INF),
        latex=r"\left|{a}\right|",
    ),
    Operator(
        "sign", 1, "sign, 0 at 0", ("0",), range=(-1, 1), limits=(-1, 1),
        latex=r"\operatorname{{sign}}\left({a}\right)",
    ),
    Operator(
        "relu", 1, "positive part, derivative 0 at 0", ("where(a > 0, 1, 0)",), range=(0, INF),
        limits=(0, INF), latex=r"\operatorname{{relu}}\left({a}\right)",
    ),
    Operator(
        "max", 2, "the larger one",
        ("where(a > b, 1, where(a == b, 0.5, 0))", "where(b > a, 1, where(a == b, 0.5, 0))"),
        latex=r"\max\left({a}, {b}\right)", aliases=("maximum",),
    ),
    Operator(
        "min", 2, "the smaller one",
        ("where(a < b, 1, where(a == b, 0.5, 0))", "where(b < a, 1, where(a == b, 0.5, 0))"),
        latex=r"\min\left({a}, {b}\right)", aliases=("minimum",),
    ),
    Operator(
        "where", 3, "b where the comparison a holds, else c",
        ("0", "where(a, 1, 0)", "where(a, 0, 1)"),
        latex=r"\begin{{cases}}{b} & {a} \\ {c} & \text{{otherwise}}\end{{cases}}",
    ),
    Operator("lt", 2, "comparison: less", ("0", "0"), range=(0, 1), latex="{a} < {b}", infix="<"),
    Operator(
        "le", 2, "comparison: less or equal", ("0", "0"), range=(0, 1), latex=r"{a} \le {b}",
        infix="<=",
    ),
    Operator(
        "gt", 2, "comparison: greater", ("0", "0"), range=(0, 1), latex="{a} > {b}", infix=">"
    ),
    Operator(
        "ge", 2, "comparison: greater or equal", ("0", "0"), range=(0, 1), latex=r"{a} \ge {b}",
        infix=">=",
    ),
    Operator("eq", 2, "comparison: equal", ("0", "0"), range=(0, 1), latex="{a} = {b}", infix="=="),
    Operator(
        "ne", 2, "comparison: different", ("0", "0"), range=(0, 1), latex=r"{a} \ne {b}",
        infix="!=",
    ),
    # roots, exponentials, logarithms
    Operator(
        "sqrt", 1, "square root", ("0.5/sqrt(a)",), domain="a >= 0", range=(0, INF),
        limits=(None, INF), cost=6, latex=r"\sqrt{{{a}}}",
    ),
    Operator(
        "cbrt", 1, "real cube root", ("1/(3*cbrt(a)**2)",), limits=(-INF, INF), cost=20,
        latex=r"\sqrt[3]{{{a}}}",
    ),
    Operator(
        "hypot", 2, "sqrt(a² + b²) without overflow", ("a/hypot(a, b)", "b/hypot(a, b)"),
        range=(0, INF), cost=8, latex=r"\sqrt{{{a}^2 + {b}^2}}",
    ),
    Operator(
        "exp", 1, "exponential", ("exp(a)",), range=(0, INF), limits=(0, INF), cost=8,
        latex=r"e^{{{a}}}",
    ),
    Operator(
        "expm1", 1, "exp(a) - 1", ("exp(a)",), range=(-1, INF), limits=(-1, INF), cost=10,
        latex=r"\left(e^{{{a}}} - 1\right)",
    ),
    Operator(
        "log", 1, "natural logarithm", ("1/a",), domain="a > 0", limits=(None, INF), cost=9,
        latex=r"\ln\left({a}\right)", aliases=("ln",),
    ),
    Operator(
        "log1p", 1, "log(1 + a)", ("1/(1+a)",), domain="a > -1", limits=(None, INF), cost=11,
        latex=r"\ln\left(1 + {a}\right)",
    ),
    # trigonometric
    Operator(
        "sin", 1, "sine", ("cos(a)",), range=(-1, 1), cost=12, latex=r"\sin\left({a}\right)"
    ),
    Operator(
        "cos", 1, "cosine", ("-sin(a)",), range=(-1, 1), cost=12, latex=r"\cos\left({a}\right)"
    ),
    Operator(
        "tan", 1, "tangent", ("1+tan(a)**2",), domain="cos(a) != 0", cost=16,
        latex=r"\tan\left({a}\right)",
    ),
    Operator(
        "asin", 1, "inverse sine", ("1/sqrt((1-a)*(1+a))",), domain="abs(a) <= 1",
        range=(-_PI / 2, _PI / 2), cost=14, latex=r"\arcsin\left({a}\right)", aliases=("arcsin",),
    ),
    Operator(
        "acos", 1, "inverse cosine", ("-1/sqrt((1-a)*(1+a))",), domain="abs(a) <= 1",
        range=(0, _PI), cost=14, latex=r"\arccos\left({a}\right)", aliases=("arccos",),
    ),
    Operator(
        "atan", 1, "inverse tangent", ("1/(1+a**2)",), range=(-_PI / 2, _PI / 2),
        limits=(-_PI / 2, _PI / 2), cost=12, latex=r"\arctan\left({a}\right)", aliases=("arctan",),
    ),
    Operator(
        "sinc", 1, "sin(a)/a, 1 at 0", ("-j1(a)",), range=(-0.21723362821122166, 1),
        limits=(0, 0), cost=16, latex=r"\operatorname{{sinc}}\left({a}\right)",
    ),
    Operator(
        "j1", 1, "spherical Bessel function of order 1, -sinc'(a)",
        ("sinc(a) - 2*where(a == 0, 1/3, j1(a)/a)",),
        range=(-0.43618196679600254, 0.43618196679600254), limits=(0, 0), cost=30,
        latex=r"j_1\left({a}\right)",
    ),
    # hyperbolic
    Operator(
        "sinh", 1, "hyperbolic sine", ("cosh(a)",), limits=(-INF, INF), cost=12,
        latex=r"\sinh\left({a}\right)",
    ),
    Operator(
        "cosh", 1, "hyperbolic cosine", ("sinh(a)",), range=(1, INF), limits=(INF, INF), cost=12,
        latex=r"\cosh\left({a}\right)",
    ),
    Operator(
        "tanh", 1, "hyperbolic tangent", ("4*sigmoid(2*a)*sigmoid(-2*a)",), range=(-1, 1),
        limits=(-1, 1), cost=12, latex=r"\tanh\left({a}\right)",
    ),
    Operator(
        "asinh", 1, "inverse hyperbolic sine", ("1/hypot(1, a)",), limits=(-INF, INF), cost=14,
        latex=r"\operatorname{{arsinh}}\left({a}\right)", aliases=("arcsinh",),
    ),
    Operator(
        "acosh", 1, "inverse hyperbolic cosine", ("1/(sqrt(a-1)*sqrt(a+1))",), domain="a >= 1",
        range=(0, INF), limits=(None, INF), cost=14,
        latex=r"\operatorname{{arcosh}}\left({a}\right)", aliases=("arccosh",),
    ),
    Operator(
        "atanh", 1, "inverse hyperbolic tangent", ("1/((1-a)*(1+a))",), domain="abs(a) < 1",
        cost=14, latex=r"\operatorname{{artanh}}\left({a}\right)", aliases=("arctanh",),
    ),
    # sigmoids and the error function
    Operator(
        "sigmoid", 1, "logistic function 1/(1 + exp(-a))", ("sigmoid(a)*sigmoid(-a)",),
        range=(0, 1), limits=(0, 1), cost=11, latex=r"\sigma\left({a}\right)",
        aliases=("logistic", "expit"),
    ),
    Operator(
        "softplus", 1, "log(1 + exp(a))", ("sigmoid(a)",), range=(0, INF), limits=(0, INF),
        cost=16, latex=r"\operatorname{{softplus}}\left({a}\right)",
    ),
    Operator(
        "erf", 1, "error function", ("2/sqrt(pi)*exp(-a**2)",), range=(-1, 1),
        limits=(-1, 1), cost=16, latex=r"\operatorname{{erf}}\left({a}\right)",
    ),
    Operator(
        "erfc", 1, "1 - erf(a)", ("-2/sqrt(pi)*exp(-a**2)",), range=(0, 2), limits=(2, 0),
        cost=20, latex=r"\operatorname{{erfc}}\left({a}\right)",
    ),
    # exponentially scaled Bessel functions, as in Act-Bench
    Operator(
        "i0e", 1, "exp(-|a|) I0(a), modified Bessel function of order 0",
        ("i1e(a) - sign(a)*i0e(a)",), range=(0, 1), limits=(0, 0), cost=20,
        latex=r"e^{{-\left|{a}\right|}} I_0\left({a}\right)", aliases=("bessel_i0e",),
    ),
    Operator(
        "i1e", 1, "exp(-|a|) I1(a), modified Bessel function of order 1",
        ("i0e(a) - sign(a)*i1e(a) - where(a == 0, 0.5, i1e(a)/a)",),
        range=(-0.219091974950531, 0.219091974950531), limits=(0, 0), cost=20,
        latex=r"e^{{-\left|{a}\right|}} I_1\left({a}\right)", aliases=("bessel_i1e",),
    ),
)  # fmt: skip

ALIASES: Mapping[str, str] = {
    alias: row.name for row in OPERATORS.values() for alias in row.aliases
}

CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e}
"""Named numbers; their exact value is the mathematical one, not this float."""

EPSILON = "1e-7"
"""What `eps` means in an expression, as a decimal: the ε of the Swish paper's search space."""

DEFINED_FUNCTIONS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "square": (("x",), "x**2"),
    "mix": (("weight", "left", "right"), "weight*left + (1 - weight)*right"),
    "logsigmoid": (("x",), "-softplus(-x)"),
    "clip": (("x", "low", "high"), "min(max(x, low), high)"),
    "step": (("x",), "where(x > 0, 1, 0)"),
    "sech": (("x",), "1/cosh(x)"),
}
"""Functions that stand for an expression over their formal arguments, expanded by the parser.

The activations of the `named` space are callable in the same way.
"""

# Algebraic properties. An algorithm asks for membership; it never lists names of its own.
COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
COMMUTATIVE = frozenset({"add", "mul", "max", "min", "hypot", "eq", "ne"})
ASSOCIATIVE = frozenset({"add", "mul", "max", "min"})
IDEMPOTENT = frozenset({"max", "min"})
ODD = frozenset(
    "neg sign cbrt sin tan asin atan j1 sinh tanh asinh atanh erf i1e".split()
)  # f(-a) = -f(a)
EVEN = frozenset("abs cos sinc cosh i0e".split())  # f(-a) = f(a)
INCREASING = frozenset(
    "relu sqrt cbrt exp expm1 log log1p asin atan sinh tanh asinh acosh atanh sigmoid softplus "
    "erf sign".split()
)
DECREASING = frozenset("neg acos erfc".split())
MONOTONE = INCREASING | DECREASING
PERIODIC = frozenset({"sin", "cos", "tan"})
PIECEWISE = frozenset({"abs", "sign", "relu", "max", "min", "where"})  # may have kinks or jumps
DISCONTINUOUS = frozenset({"sign", "where"})
