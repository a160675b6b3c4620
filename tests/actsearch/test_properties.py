"""Properties against facts from the literature, and against numerics of another making."""

from __future__ import annotations

import functools
import json
import math

import numpy as np
import pytest

from actsearch.analysis import known_name, properties
from actsearch.grammar import named_activations
from actsearch.grammar.evaluate import evaluate

INF = math.inf
known_properties = functools.cache(properties)

# text | domain | range | limits | parity | trend | how smooth | kinks | zero gradient | slope
FACTS = """
x|(-∞, ∞)|(-∞, ∞)|-inf inf|odd|increasing|smooth|||1
relu(x)|(-∞, ∞)|[0, ∞)|0 inf|neither|increasing|continuous|0|(-∞, 0]|1
relu6(x)|(-∞, ∞)|[0, 6]|0 6|neither|increasing|continuous|0 6|(-∞, 0]; [6, ∞)|1
leaky_relu(x)|(-∞, ∞)|(-∞, ∞)|-inf inf|neither|increasing|continuous|0||1
elu(x)|(-∞, ∞)|(-1, ∞)|-1 inf|neither|increasing|continuous|||1
silu(x)|(-∞, ∞)|[-0.278464542761, ∞)|0 inf|neither|none|smooth|||1.0998393201
gelu(x)|(-∞, ∞)|[-0.16997120748, ∞)|0 inf|neither|none|smooth|||1.1289041451
mish(x)|(-∞, ∞)|[-0.308843413017, ∞)|0 inf|neither|none|smooth|||1.0884981612
tanh(x)|(-∞, ∞)|(-1, 1)|-1 1|odd|increasing|smooth|||1
sigmoid(x)|(-∞, ∞)|(0, 1)|0 1|neither|increasing|smooth|||0.25
softplus(x)|(-∞, ∞)|(0, ∞)|0 inf|neither|increasing|smooth|||1
softsign(x)|(-∞, ∞)|(-1, 1)|-1 1|odd|increasing|continuous|||1
hardswish(x)|(-∞, ∞)|[-0.375, ∞)|0 inf|neither|none|continuous|-3 3|(-∞, -3]|1.5
hardtanh(x)|(-∞, ∞)|[-1, 1]|-1 1|odd|increasing|continuous|-1 1|(-∞, -1]; [1, ∞)|1
hardsigmoid(x)|(-∞, ∞)|[0, 1]|0 1|neither|increasing|continuous|-3 3|(-∞, -3]; [3, ∞)|0.166666666667
softshrink(x)|(-∞, ∞)|(-∞, ∞)|-inf inf|odd|increasing|continuous|-0.5 0.5|[-0.5, 0.5]|1
hardshrink(x)|(-∞, ∞)|(-∞, ∞)|-inf inf|odd|increasing|jumps||[-0.5, 0.5]|inf
tanhshrink(x)|(-∞, ∞)|(-∞, ∞)|-inf inf|odd|increasing|smooth|||1
sign(x)|(-∞, ∞)|[-1, 1]|-1 1|odd|increasing|jumps||(-∞, 0); (0, ∞)|inf
sinc(x)|(-∞, ∞)|[-0.217233628211, 1]|0 0|even|none|smooth|||0.4361818172
sin(x)|(-∞, ∞)|[-1, 1]|none none|odd|none|smooth|||1
exp(x)|(-∞, ∞)|(0, ∞)|0 inf|neither|increasing|smooth|||inf
gaussian(x)|(-∞, ∞)|(0, 1]|0 0|even|none|smooth|||0.857763884961
log(abs(x) + eps)|(-∞, ∞)|[-16.118095651, ∞)|inf inf|even|none|continuous|0||10000000.0
sqrt(x)|[0, ∞)|[0, ∞)|none inf|neither|increasing|smooth|||inf
log(x)|(0, ∞)|(-∞, ∞)|none inf|neither|increasing|smooth|||inf
asin(x)|[-1, 1]|[-1.57079632679, 1.57079632679]|none none|odd|increasing|smooth|||inf
x**2|(-∞, ∞)|[0, ∞)|inf inf|even|none|smooth|||inf
x**3|(-∞, ∞)|(-∞, ∞)|-inf inf|odd|increasing|smooth|||inf
relu_squared(x)|(-∞, ∞)|[0, ∞)|0 inf|neither|increasing|continuous||(-∞, 0]|inf
x*abs(x)|(-∞, ∞)|(-∞, ∞)|-inf inf|odd|increasing|continuous|||inf
atan(x)|(-∞, ∞)|(-1.57079632679, 1.57079632679)|-1.5707963268 1.5707963268|odd|increasing|smooth|||1
cos(x) - x|(-∞, ∞)|(-∞, ∞)|inf -inf|neither|decreasing|smooth|||2
2 - 3|(-∞, ∞)|[-1, -1]|-1 -1|even|constant|smooth||(-∞, ∞)|0
0*x|(-∞, ∞)|[0, 0]|0 0|both|constant|smooth||(-∞, ∞)|0
x/x|(-∞, ∞)|[1, 1]|1 1|even|constant|smooth||(-∞, ∞)|0
max(x, tanh(x))|(-∞, ∞)|(-1, ∞)|-1 inf|neither|increasing|continuous|||1
squareplus(x)|(-∞, ∞)|(0, ∞)|0 inf|neither|increasing|smooth|||1
x*sin(x)|(-∞, ∞)|(-∞, ∞)|none none|even|none|smooth|||inf
exp(exp(x))|(-∞, ∞)|(1, ∞)|1 inf|neither|increasing|smooth|||inf
exp(-exp(x))|(-∞, ∞)|(0, 1)|1 0|neither|decreasing|smooth|||0.367879441171
"""


@pytest.mark.parametrize("line", FACTS.strip().splitlines())
def test_known_facts(line: str) -> None:
    facts = [part.strip() for part in line.split("|")]
    text, domain, values, limits, parity, trend, kind, kinks, zero, lipschitz = facts
    found = known_properties(text)
    assert " ∪ ".join(map(str, found.domain)) == domain
    assert str(found.range) == values
    for ours, expected in zip(found.limits, limits.split(), strict=True):
        if expected == "none":
            assert ours is None
        else:
            assert ours == pytest.approx(float(expected), abs=1e-10)
    assert found.parity == parity
    assert found.monotone == trend
    assert found.continuous is (kind != "jumps")
    assert found.smooth is (kind == "smooth")
    assert [kink.x for kink in found.kinks] == [float(x) for x in kinks.split()]
    assert "; ".join(map(str, found.zero_gradient)) == zero
    assert found.lipschitz == pytest.approx(float(lipschitz), rel=1e-8)


def test_minima() -> None:
    silu = known_properties("silu(x)")
    assert silu.minimum == pytest.approx((-0.27846454276107, -1.27846454276107), abs=1e-13)
    assert silu.maximum is None
    gelu = known_properties("gelu(x)")
    assert gelu.minimum == pytest.approx((-0.16997120747990, -0.75179152469356), abs=1e-12)
    assert known_properties("hardswish(x)").minimum == (-0.375, -1.5)
    assert known_properties("tanh(x)").minimum is None
    assert known_properties("sin(x)").maximum == (1.0, math.pi / 2)


def test_kinks_have_both_slopes() -> None:
    (kink,) = known_properties("where(x > 0, x, 0.25*x)").kinks
    assert (kink.x, kink.left, kink.right) == (0.0, 0.25, 1.0)
    low, high = known_properties("hardswish(x)").kinks
    assert (low.left, low.right, high.left, high.right) == (0.0, -0.5, 1.5, 1.0)
    (cusp,) = known_properties("sqrt(abs(x))").kinks
    assert (cusp.left, cusp.right) == (-INF, INF)
    (irrational,) = known_properties("max(x, sqrt(2))").kinks
    assert irrational.x == math.sqrt(2)


def test_jumps_poles_and_gaps() -> None:
    (jump,) = known_properties("where(x > 0.3, 2, x)").jumps
    assert (jump.x, jump.left, jump.right, jump.value) == (0.3, 0.3, 2.0, 0.3)
    threshold = known_properties("threshold(x)")
    assert [(j.x, j.left, j.right) for j in threshold.jumps] == [(1.0, 0.0, 1.0)]
    inverse = known_properties("1/x")
    assert inverse.poles == (0.0,)
    assert [str(part) for part in inverse.domain] == ["(-∞, 0)", "(0, ∞)"]
    assert inverse.monotone == "none"
    assert [piece.trend for piece in inverse.monotone_pieces] == ["decreasing", "decreasing"]
    gap = known_properties("sqrt(x**2 - 2)")
    assert [str(part) for part in gap.domain] == ["(-∞, -1.41421356237]", "[1.41421356237, ∞)"]
    assert not known_properties("tan(x)").complete


def test_pieces() -> None:
    pieces = known_properties("hardswish(x)").monotone_pieces
    assert [(str(p.interval), p.trend) for p in pieces] == [
        ("(-∞, -3]", "constant"),
        ("[-3, -1.5]", "decreasing"),
        ("[-1.5, ∞)", "increasing"),
    ]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("exp(x)", "float32", (None, 88.72283908187067)),
        ("exp(x)", "float16", (None, math.log(65520))),
        ("x**2", "float16", (-math.sqrt(65520), math.sqrt(65520))),
        ("x**2", "float32", (-(2.0**64), 2.0**64)),
        ("relu(x)", "float16", (None, None)),
        ("2*x", "float16", (-32760.0, 32760.0)),
        ("1/x", "float32", (None, None)),
        ("x*sigmoid(x)", "bfloat16", (None, None)),
        ("log(x)", "float16", (None, None)),
    ],
)
def test_overflow(text: str, kind: str, expected: tuple[float | None, float | None]) -> None:
    found = known_properties(text).overflow[kind]
    for ours, known in zip(found, expected, strict=True):
        assert ours == (known if known is None else pytest.approx(known, rel=1e-6))


def test_overflow_is_where_numpy_overflows() -> None:
    for text, function in (("exp(x)", np.exp), ("cosh(x)", np.cosh), ("x**3", lambda x: x * x * x)):
        threshold = known_properties(text).overflow["float32"][1]
        assert threshold is not None
        with np.errstate(over="ignore"):
            below, above = function(np.array([threshold * 0.999, threshold * 1.001], np.float32))
        assert np.isfinite(below)
        assert np.isinf(above)


UNIVARIATE = [a for a in named_activations().values() if len(a.expression.inputs) == 1]


@pytest.mark.parametrize("name", [activation.name for activation in UNIVARIATE])
def test_every_named_activation_against_a_plain_grid(name: str) -> None:
    expression = named_activations()[name].expression
    found = known_properties(expression)
    x = np.linspace(-9, 9, 7201)
    values = evaluate(expression, {"x": x})
    inside = np.array([any(float(place) in part for part in found.domain) for place in x])
    assert np.isnan(values[~inside]).all()
    assert np.isfinite(values[inside]).all()
    x, values = x[inside], values[inside]
    margin = 1e-9 * max(1.0, float(np.max(np.abs(values))))
    assert values.min() >= found.range.low - margin
    assert values.max() <= found.range.high + margin
    if found.minimum is not None:
        at = float(evaluate(expression, {"x": found.minimum[1]}))
        assert at == pytest.approx(found.minimum[0], abs=1e-12)
    steps = np.diff(values)
    slopes = np.abs(steps) / np.diff(x)
    assert slopes.max() <= found.lipschitz * (1 + 1e-7) + 1e-7
    if found.monotone == "increasing":
        assert steps.min() >= -margin
    if found.monotone == "none" and found.complete:
        assert steps.min() < 0 < steps.max() or not found.continuous
    for piece in found.monotone_pieces:
        here = (x > piece.interval.low + 0.01) & (x < piece.interval.high - 0.01)
        trend = np.diff(values[here])
        if piece.trend == "constant":
            assert (trend == 0).all() or np.abs(trend).max() < margin
        elif piece.trend == "increasing":
            assert (trend >= -margin).all()
        else:
            assert (trend <= margin).all()
    mirrored = evaluate(expression, {"x": -x})
    if found.parity == "even":
        assert np.allclose(values, mirrored, equal_nan=True)
    if found.parity == "odd":
        assert np.allclose(values, -mirrored, equal_nan=True)


def test_parameters_can_be_set() -> None:
    assert properties("where(x > 0, x, a*x)", {"a": 0.25}).kinks[0].left == 0.25
    assert properties("x*a; a = 3.0").lipschitz == 3.0
    assert properties("where(x > 0, x, a*x)").kinks == ()
    with pytest.raises(ValueError, match="no parameter"):
        properties("x", {"a": 1.0})


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="two inputs"):
        properties("x*gate")
    with pytest.raises(ValueError, match="at most"):
        properties(" + ".join(f"sin({n}*x)" for n in range(300)))


def test_plain_data() -> None:
    data = json.loads(json.dumps(properties("1/x").to_dict(), allow_nan=False))
    assert data["domain"][0]["low"] == "-inf"
    assert data["lipschitz"] == "inf"
    assert data["parity"] == "odd"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x/(1 + exp(-x))", "silu"),
        ("x*sigmoid(b*x)", "swish"),
        ("max(x, 0)", "relu"),
        ("(x + abs(x))/2", "relu"),
        ("x*(1 + erf(x/sqrt(2)))/2", "gelu"),
        ("x*((1 + exp(x))**2 - 1)/((1 + exp(x))**2 + 1)", "mish"),
        ("2*sigmoid(2*x) - 1", "tanh"),
        ("where(x >= 0, x, c*x)", "prelu"),
        ("gate*sigmoid(gate)*x", "swiglu"),
        ("x*min(relu(x + 3), 6)/6", "hardswish"),
    ],
)
def test_known_names(text: str, name: str) -> None:
    found = known_name(text)
    assert found is not None
    assert found.name == name


def test_no_name() -> None:
    assert known_name("x*sigmoid(x) + 1e-9") is None
    assert known_name("max(x, -8)") is None
    swish = known_name("x*sigmoid(beta*x)")
    assert swish is not None
    assert "trainable beta" in swish.title
