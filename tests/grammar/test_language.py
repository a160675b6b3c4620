"""The language: what it accepts, what it refuses, and that text and expression are one."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actsearch.grammar import Input, Number, Parameter, call, errors, named_activations, parse
from actsearch.grammar.language import MAX_LENGTH
from actsearch.grammar.operators import COMPARISONS, OPERATORS
from tests.grammar.strategies import expressions

X = Input("x")


@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(expressions)
def test_text_and_expression_round_trip(expression):
    assert parse(str(expression)) is expression


@given(
    st.one_of(
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**300), max_value=10**300),
    )
)
def test_numbers_round_trip_exactly(value):
    try:
        number = Number(value if isinstance(value, int | float) else str(value))
    except errors.BadNumber:
        return  # beyond float64
    assert parse(str(number)) is number


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("-x**2", "-(x**2)"),
        ("a-b-c", "(a-b)-c"),
        ("a/b*c", "(a/b)*c"),
        ("2**x**y", "2**(x**y)"),
        ("2**-x", "2**(-x)"),
        ("+x", "x"),
        (" x\n*\tx ", "x*x"),
        ("maximum(x, 0)", "max(x, 0)"),
        ("add(x, mul(2, x))", "x + 2*x"),
        ("silu(2*x)", "2*x*sigmoid(2*x)"),
        ("swiglu(x, gate)", "x*(gate*sigmoid(gate))"),
        ("swiglu(gate, x)", "gate*(x*sigmoid(x))"),
        ("square(x)", "x**2"),
        ("x/(abs(x) + eps)", "x/(abs(x) + 1e-7)"),
        ("1.50*x", "1.5*x"),
        ("prelu(x); alpha = 0.1", "where(x > 0, x, alpha*x); alpha = 0.1"),
        ("a*x; a = 2 shared lr 1", "a*x; a = 2.0"),
        ("a*x + b; a = 2, b = 3", "a*x + b; b = 3; a = 2"),
    ],
)
def test_means_the_same(text, same):
    assert parse(text) is parse(same)


@pytest.mark.parametrize(
    ("text", "different"),
    [("a-(b-c)", "a-b-c"), ("(-2)**2", "-2**2"), ("max(x, 0)", "relu(x)"), ("x*2", "2*x")],
)
def test_means_something_else(text, different):
    assert parse(text) is not parse(different)


def test_numbers_are_exact():
    assert parse("0.1") is Number("0.1")
    assert parse("0.1").value * 10 == 1
    assert parse("-2") is Number(-2)
    assert str(parse("1e-7*x")) == "1e-7*x"


def test_holes_are_fresh_parameters_in_order_of_appearance():
    assert [p.name for p in parse("_*x + sin(_)").parameters] == ["_1", "_2"]
    assert parse("_*x + _") is parse("_1*x + _2")
    assert [p.name for p in parse("_1*x + _").parameters] == ["_1", "_2"]


def test_a_declaration_of_the_hole_is_for_every_hole():
    first, second = parse("_*x + _; _ = 0.5 per channel").parameters
    assert first is Parameter("_1", 0.5, "per channel")
    assert second is Parameter("_2", 0.5, "per channel")


def test_mix_uses_one_hole_twice():
    assert parse("mix(_, x, sin(x))") is parse("_1*x + (1 - _1)*sin(x)")


def test_declarations():
    (beta,) = parse("x*sigmoid(beta*x); beta = -1.5 per channel dim -1 lr 0.01").parameters
    assert beta is Parameter("beta", -1.5, "per channel", -1, 0.01)
    (plain,) = parse("x*sigmoid(beta*x)").parameters
    assert plain is Parameter("beta", 1.0, "shared", 1, 1.0)


def test_keywords_are_also_names():
    assert [p.name for p in parse("per*x + lr*channel + shared*dim").parameters] == [
        "per", "lr", "channel", "shared", "dim",
    ]  # fmt: skip


BAD = [
    ("", errors.EmptyExpression, None, "expected an expression"),
    ("  \n", errors.EmptyExpression, None, "expected an expression"),
    ("x**", errors.UnexpectedToken, 3, "ends here"),
    ("x*/2", errors.UnexpectedToken, 2, "unexpected '/'"),
    ("2x", errors.UnexpectedToken, 1, "expected an operator"),
    ("(x", errors.UnbalancedParentheses, 0, "never closed"),
    ("sin(x))", errors.UnbalancedParentheses, 6, "closes nothing"),
    (")x(", errors.UnbalancedParentheses, 0, "closes nothing"),
    ("sigmod(x)", errors.UnknownFunction, 0, "did you mean 'sigmoid'?"),
    ("x + Relu(x)", errors.UnknownFunction, 4, "did you mean 'relu'?"),
    ("__import__(x)", errors.UnknownFunction, 0, "no function"),
    ("lt(x, 0)", errors.UnknownFunction, 0, "no function"),
    ("max(x)", errors.WrongArity, 0, "2 arguments, not 1"),
    ("sin()", errors.WrongArity, 0, "1 argument, not 0"),
    ("silu(x, x)", errors.WrongArity, 0, "1 argument (x), not 2"),
    ("clip(x)", errors.WrongArity, 0, "3 arguments (x, low, high), not 1"),
    ("x > 0", errors.MisplacedComparison, 2, "where(comparison, a, b)"),
    ("sin(x > 0)", errors.MisplacedComparison, 0, "first argument of where"),
    ("where(x, 1, 2)", errors.MisplacedComparison, 0, "such as x > 0"),
    ("where(x > 0, x > 1, 2)", errors.MisplacedComparison, 0, "first argument of where"),
    ("x*sigmoid", errors.UnexpectedToken, 2, "write sigmoid(…)"),
    ("x ^ 2", errors.UnexpectedCharacter, 2, "write ** for a power"),
    ("x\x00", errors.UnexpectedCharacter, 1, "U+0000"),
    ("x\x1b[31m", errors.UnexpectedCharacter, 1, "U+001B"),
    ("ξ*x", errors.UnexpectedCharacter, 0, "'ξ'"),
    ("1e999*x", errors.BadNumber, 0, "range of float64"),
    ("1e-999*x", errors.BadNumber, 0, "range of float64"),
    ("1e999999999*x", errors.BadNumber, 0, "float64"),
    ("9" * 5000, errors.BadNumber, 0, "digits"),
    ("beta*x; beta", errors.UnexpectedToken, 12, "expected '='"),
    ("beta*x; beta =", errors.UnexpectedToken, 14, "a number"),
    ("beta*x;", errors.UnexpectedToken, 7, "a name"),
    ("beta*x; beta = 1 per", errors.UnexpectedToken, 20, "'channel'"),
    ("beta*x; beta = 1 lr 0", errors.BadDeclaration, 20, "positive"),
    ("beta*x; beta = 1 per channel dim 0.5", errors.BadDeclaration, 33, "whole number"),
    ("beta*x; beta = 1, beta = 2", errors.BadDeclaration, 18, "twice"),
    ("beta*x; bata = 1", errors.BadDeclaration, 8, "did you mean 'beta'?"),
    ("beta*x; beta = 1e400", errors.BadNumber, 15, "float64"),
    ("(" * 1_000_000, errors.UnbalancedParentheses, 999_999, "never closed"),
    ("x+" * 600_000 + "x", errors.TextTooLong, None, f"{MAX_LENGTH:,}"),
]


@pytest.mark.parametrize(("text", "kind", "position", "message"), BAD, ids=lambda v: str(v)[:24])
def test_bad_input_is_one_screen_with_a_caret(text, kind, position, message):
    with pytest.raises(errors.ExpressionError) as caught:
        parse(text)
    error = caught.value
    assert type(error) is kind
    assert message in error.message
    assert error.position == position
    lines = str(error).splitlines()
    assert len(lines) <= 3
    assert all(len(line) < 200 and line.isprintable() for line in lines)
    if position is not None:
        assert lines[-1].strip() == "^"
        column = lines[-1].index("^")
        expected = text[position] if position < len(text) else None
        if expected is not None and expected.isprintable():
            assert lines[-2][column] == expected
    assert error.__cause__ is None


def test_an_error_survives_pickling():
    with pytest.raises(errors.UnknownFunction) as caught:
        parse("sigmod(x)")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert type(copy) is errors.UnknownFunction


def test_only_a_string_is_parsed():
    with pytest.raises(TypeError, match="not int"):
        parse(3)  # type: ignore[arg-type]


@settings(max_examples=1_500)
@given(st.text(alphabet=st.sampled_from("x01.e+-*/(), _;=<>βabsin\n\x01"), max_size=24))
def test_any_text_parses_or_raises_an_expression_error(text):
    try:
        expression = parse(text)
    except errors.ExpressionError:
        return
    assert parse(str(expression)) is expression


def test_a_sum_of_ten_thousand_terms():
    expression = parse(" + ".join(f"sin({i}*x)" for i in range(10_000)))
    assert parse(str(expression)) is expression
    assert expression.size == 3 * 10_000 - 1 + 10_000 + 1


def test_ten_thousand_parentheses_and_ten_thousand_levels():
    assert parse("(" * 10_000 + "x" + ")" * 10_000) is X
    deep = X
    for _ in range(10_000):
        deep = call("sin", deep)
    assert parse(str(deep)) is deep


def test_every_function_of_the_table_can_be_called_by_its_name():
    for name, operator in OPERATORS.items():
        if name not in COMPARISONS and name != "where":
            arguments = ", ".join(["x", "gate", "pi"][: operator.arity])
            assert parse(f"{name}({arguments})").operator is operator


def test_every_named_activation_can_be_called_by_its_name():
    for name, activation in named_activations().items():
        inputs = ", ".join(node.name for node in activation.expression.inputs)
        assert parse(f"{name}({inputs})") is activation.expression or name in OPERATORS


def test_parsing_loads_neither_torch_nor_sympy():
    code = (
        "import sys; from actsearch.grammar import parse; parse('silu(x) + beta; beta = 2');"
        "assert not {'torch', 'sympy', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
