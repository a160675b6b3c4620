"""Expressions: interned, immutable, and as deep as memory allows."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from hypothesis import given

from actsearch.grammar import Apply, Constant, Input, Number, Parameter, call, parse
from actsearch.grammar.errors import BadNumber, ConflictingParameters, WrongArity
from actsearch.grammar.expression import _INTERNED
from tests.grammar.strategies import expressions

X = Input("x")


def test_equal_structure_is_the_same_object():
    assert parse("x*sigmoid(x)") is X * call("sigmoid", X)
    assert Parameter("b", 2) is Parameter("b", 2.0)
    assert Parameter("b", 2) is not Parameter("b", 3)
    assert 2 * X - 1 is parse("2*x - 1")
    assert -(2**X) / 3 is parse("-(2**x)/3")


@given(expressions)
def test_copies_and_pickles_are_the_same_object(expression):
    assert copy.copy(expression) is expression
    assert copy.deepcopy(expression) is expression
    assert pickle.loads(pickle.dumps(expression)) is expression


def test_another_process_interns_again():
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        text = "x*sigmoid(beta*x); beta = 0.5 per channel lr 0.1"
        assert pool.submit(str, parse(text)).result() == text


def test_threads_intern_one_node():
    with ThreadPoolExecutor(8) as pool:
        nodes = list(pool.map(lambda i: parse(f"sin(x)**{i % 7}*tanh(x)"), range(400)))
    assert len({id(node) for node in nodes}) == 7


def test_immutable():
    with pytest.raises(AttributeError, match="immutable"):
        X.name = "y"


def test_a_deep_expression_is_traversed_pickled_and_freed_without_recursion():
    gc.collect()
    parse("cos(x) + 12345")  # interning drops what has died
    before = len(_INTERNED._nodes)
    deep = X
    for _ in range(10_000):
        deep = call("tanh", deep) * 2
    assert sum(1 for _ in deep.postorder()) == 20_002
    assert pickle.loads(pickle.dumps(deep)) is deep
    assert deep.substitute({X: X}) is deep
    del deep
    gc.collect()
    parse("cos(x) + 54321")
    assert len(_INTERNED._nodes) < before + 100


def test_postorder_visits_shared_nodes_once_operands_first():
    expression = parse("sin(x)*sin(x) + sin(x)")
    nodes = list(expression.postorder())
    assert len(nodes) == len(set(nodes)) == expression.size == 4
    for position, node in enumerate(nodes):
        assert all(nodes.index(argument) < position for argument in node.arguments)


def test_substitution_is_simultaneous():
    a, b = Parameter("a"), Parameter("b")
    assert (a - b).substitute({a: b, b: a}) is b - a
    assert parse("x*sigmoid(x)").substitute({X: X**2}) is parse("x**2*sigmoid(x**2)")


def test_inputs_and_parameters_in_order_of_appearance():
    expression = parse("gate*(b*x + a)*b")
    assert [node.name for node in expression.inputs] == ["gate", "x"]
    assert [node.name for node in expression.parameters] == ["b", "a"]


def test_one_name_with_two_declarations_is_refused():
    expression = Parameter("b", 1.0) * X + Parameter("b", 2.0)
    with pytest.raises(ConflictingParameters, match="'b'"):
        _ = expression.parameters


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1/3", "1e999", 10**400])
def test_a_number_is_a_decimal_in_the_range_of_float64(value):
    with pytest.raises(BadNumber):
        Number(value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Input("y"), "x, gate"),
        (lambda: Constant("tau"), "pi, e"),
        (lambda: Parameter("b", scope="global"), "'shared' or 'per channel'"),
        (lambda: Parameter("b", learning_rate=0), "positive"),
        (lambda: Parameter("b", float("nan")), "finite"),
    ],
)
def test_bad_leaves(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_call_checks_the_arity():
    with pytest.raises(WrongArity, match="max takes 2 arguments, not 1"):
        call("max", X)
    with pytest.raises(KeyError):
        call("no_such_operator", X)


def test_cost_counts_shared_work_once():
    assert parse("exp(x) + exp(x)").cost == parse("exp(x) + x").cost
    assert Apply("exp", X).cost > Apply("neg", X).cost
