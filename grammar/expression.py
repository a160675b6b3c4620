"""Expressions: immutable, interned trees over the operator table.

Equal structure is the same object, so `is` compares and shared sub-expressions are shared in
memory. Every traversal is iterative: depth is bounded by memory, not by the stack.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeVar, Union
from weakref import ref

from actsearch.grammar.errors import BadNumber, ConflictingParameters, WrongArity
from actsearch.grammar.operators import CONSTANTS, OPERATORS, Operator

SCOPES = ("shared", "per channel")
INPUTS = ("x", "gate")

_LARGEST = Fraction(2**1024)
_SMALLEST = Fraction(1, 2**1075)

Result = TypeVar("Result")
Operand = Union["Expression", int, float, Fraction]


class _InternedNode(ref["Expression"]):
    """A weak reference to a node that remembers under which key the node is interned."""

    __slots__ = ("key",)
    key: tuple[Any, ...]


class _InternTable:
    """Structure -> the one node that has it, while somebody holds that node.

    A key holds its node's operands. Keys of dead nodes are therefore queued and dropped one after
    the other: dropping them inside the weak reference's callback would recurse as deep as the tree.
    """

    def __init__(self) -> None:
        self._nodes: dict[tuple[Any, ...], _InternedNode] = {}
        self._dead: deque[Any] = deque()

    def get(self, key: tuple[Any, ...]) -> Expression | None:
        found = self._nodes.get(key)
        return None if found is None else found()

    def add(self, key: tuple[Any, ...], node: Expression) -> Expression:
        """Intern `node`, unless another thread was first: then the other thread's node."""
        self._drop_dead()
        reference = _InternedNode(node, self._dead.append)
        reference.key = key
        first = self._nodes.setdefault(key, reference)()
        if first is not None:
            return first
        self._nodes[key] = reference
        return node

    def _drop_dead(self) -> None:
        while self._dead:
            dead = self._dead.popleft()
            key = dead.key
            if self._nodes.get(key) is dead:
                del self._nodes[key]
            del dead, key  # the key holds the operands, which may die now in turn


_INTERNED = _InternTable()


class Expression:
    """An activation expression. Build it with `parse`, `call`, or Python's own operators.

    Nodes are interned: `parse("x+1") is parse("x + 1")`. They hash by identity, can be weakly
    referenced, copied (to themselves) and pickled (re-interned in the other process).
    """

    __slots__ = ("__weakref__", "arguments")
    arguments: tuple[Expression, ...]
    """The operands, left to right; empty for a leaf."""

    @classmethod
    def _intern(cls, fields: Mapping[str, Any], arguments: tuple[Expression, ...] = ()) -> Any:
        """The one node of this class with these fields and arguments."""
        key = (cls, *fields.values(), *arguments)
        node = _INTERNED.get(key)
        if node is None:
            node = object.__new__(cls)
            object.__setattr__(node, "arguments", arguments)
            for name, value in fields.items():
                object.__setattr__(node, name, value)
            node = _INTERNED.add(key, node)
        return node

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("expressions are immutable")

    # traversal

    def postorder(self) -> Iterator[Expression]:
        """Every distinct node once, operands before what uses them, left before right."""
        seen: set[Expression] = set()
        stack: list[tuple[Expression, bool]] = [(self, False)]
        while stack:
            node, expanded = stack.pop()
            if node in seen:
                continue
            if expanded or not node.arguments:
                seen.add(node)
                yield node
            else:
                stack.append((node, True))
                stack.extend((argument, False) for argument in reversed(node.arguments))

    def fold(self, visit: Callable[[Expression, tuple[Result, ...]], Result]) -> Result:
        """Compute bottom-up: `visit(node, results of its arguments)`, once for each node."""
        results: dict[Expression, Result] = {}
        for node in self.postorder():
            results[node] = visit(node, tuple(results[a] for a in node.arguments))
        return results[self]

    def substitute(self, replacements: Mapping[Expression, Expression]) -> Expression:
        """This expression with every node that is a key replaced; replacements are not searched."""

        def visit(node: Expression, arguments: tuple[Expression, ...]) -> Expression:
            if node in replacements:
                return replacements[node]
            return node.with_arguments(arguments)

        return self.fold(visit)

    def with_arguments(self, arguments: tuple[Expression, ...]) -> Expression:
        """The same kind of node over other operands."""
        return self

    # what it is made of

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs that occur, in order of first appearance."""
        return tuple(node for node in self.postorder() if isinstance(node, Input))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The trainable parameters, in order of first appearance.

        Raises:
            ConflictingParameters: one name stands for two different declarations.
        """
        found = tuple(node for node in self.postorder() if isinstance(node, Parameter))
        names = [parameter.name for parameter in found]
        for name in names:
            if names.count(name) > 1:
                raise ConflictingParameters(
                    f"the parameter {name!r} is declared in two different ways in one expression"
                )
        return found

    @property
    def size(self) -> int:
        """Number of distinct nodes."""
        return sum(1 for _ in self.postorder())

    @property
    def cost(self) -> float:
        """Estimated time of one evaluation, in multiples of one multiplication."""
        return sum(node.operator.cost for node in self.postorder() if isinstance(node, Apply))

    # text

    def __str__(self) -> str:
        from actsearch.grammar.printing import to_text

        return to_text(self)

    def __repr__(self) -> str:
        return f"parse({str(self)!r})"

    # identity survives copies and processes

    def __copy__(self) -> Expression:
        return self

    def __deepcopy__(self, memo: object) -> Expression:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        position: dict[Expression, int] = {}
        rows: list[tuple[Any, ...]] = []
        for node in self.postorder():
            position[node] = len(rows)
            rows.append((type(node), *node._fields(), *(position[a] for a in node.arguments)))
        return _rebuild, (rows,)

    def _fields(self) -> tuple[Any, ...]:
        raise NotImplementedError

    # Python's own operators build nodes

    def __add__(self, other: Operand) -> Expression:
        return call("add", self, other)

    def __radd__(self, other: Operand) -> Expression:
        return call("add", other, self)

    def __sub__(self, other: Operand) -> Expression:
        return call("sub", self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return call("sub", other, self)

    def __mul__(self, other: Operand) -> Expression:
        return call("mul", self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return call("mul", other, self)

    def __truediv__(self, other: Operand) -> Expression:
        return call("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return call("div", other, self)

    def __pow__(self, other: Operand) -> Expression:
        return call("pow", self, other)

    def __rpow__(self, other: Operand) -> Expression:
        return call("pow", other, self)

    def __neg__(self) -> Expression:
        return call("neg", self)


class Input(Expression):
    """An input of the activation: `x`, or `gate` for the second one of a gated activation."""

    __slots__ = ("name",)
    name: str

    def __new__(cls, name: str) -> Input:
        if name not in INPUTS:
            raise ValueError(f"an input is one of {', '.join(INPUTS)}, not {name!r}")
        return cls._intern({"name": name})  # type: ignore[no-any-return]

    def _fields(self) -> tuple[Any, ...]:
        return (self.name,)


class Number(Expression):
    """An exact number with finitely many decimals.

    Args:
        value: an int, a decimal string, a Fraction with a finite decimal expansion, or a float
            (which stands for its shortest decimal: 0.1 is one tenth).

    Raises:
        BadNumber: not finite, beyond float64, or a fraction such as 1/3 that has no finite decimal
            (write a quotient of two numbers).
    """

    __slots__ = ("value",)
    value: Fraction

    def __new__(cls, value: int | float | str | Fraction) -> Number:
        try:
            exact = Fraction(repr(value) if isinstance(value, float) else value)
        except (ValueError, OverflowError):
            raise BadNumber(f"a number is finite, not {value!r}") from None
        if abs(exact) >= _LARGEST or 0 < abs(exact) < _SMALLEST:
            raise BadNumber("this number is outside the range of float64 (5e-324 to 1.8e308)")
        rest = exact.denominator
        for prime in (2, 5):
            while rest % prime == 0:
                rest //= prime
        if rest != 1:
            raise BadNumber(f"{exact} has no finite decimal form; write it as a quotient")
        return cls._intern({"value": exact})  # type: ignore[no-any-return]

    def _fields(self) -> tuple[Any, ...]:
        return (self.value,)


class Constant(Expression):
    """A named mathematical constant: `pi` or `e`, with its exact meaning."""

    __slots__ = ("name",)
    name: str

    def __new__(cls, name: str) -> Constant:
        if name not in CONSTANTS:
            raise ValueError(f"a constant is one of {', '.join(CONSTANTS)}, not {name!r}")
        return cls._intern({"name": name})  # type: ignore[no-any-return]

    def _fields(self) -> tuple[Any, ...]:
        return (self.name,)


class Parameter(Expression):
    """A trainable parameter.

    Args:
        name: an identifier.
        initial: its value before training.
        scope: "shared" (one value) or "per channel" (one for each index of a dimension).
        dimension: the channel dimension, as in torch.nn.PReLU; only for "per channel".
        learning_rate: multiplier on the learning rate of the weights.
    """

    __slots__ = ("dimension", "initial", "learning_rate", "name", "scope")
    name: str
    initial: float
    scope: str
    dimension: int
    learning_rate: float

    def __new__(
        cls,
        name: str,
        initial: float = 1.0,
        scope: str = "shared",
        dimension: int = 1,
        learning_rate: float = 1.0,
    ) -> Parameter:
        if scope not in SCOPES:
            raise ValueError(f"a parameter's scope is 'shared' or 'per channel', not {scope!r}")
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"a learning-rate multiplier is positive, not {learning_rate}")
        if not math.isfinite(initial):
            raise ValueError(f"the initial value of {name!r} is finite, not {initial}")
        return cls._intern(  # type: ignore[no-any-return]
            {
                "name": name,
                "initial": float(initial),
                "scope": scope,
                "dimension": int(dimension) if scope == "per channel" else 1,
                "learning_rate": float(learning_rate),
            }
        )

    def _fields(self) -> tuple[Any, ...]:
        return (self.name, self.initial, self.scope, self.dimension, self.learning_rate)


class Apply(Expression):
    """An operator applied to its operands; `call` converts numbers and checks what fits where."""

    __slots__ = ("operator",)
    operator: Operator

    def __new__(cls, name: str, *arguments: Expression) -> Apply:
        return cls._intern({"operator": OPERATORS[name]}, arguments)  # type: ignore[no-any-return]

    def _fields(self) -> tuple[Any, ...]:
        return (self.operator.name,)

    def with_arguments(self, arguments: tuple[Expression, ...]) -> Expression:
        if arguments == self.arguments:
            return self
        return call(self.operator.name, *arguments)


def call(name: str, *operands: Operand) -> Expression:
    """The operator `name` of the table applied to `operands` (numbers become `Number`).

    Raises:
        KeyError: no such operator.
        WrongArity: not as many operands as the operator takes.
    """
    operator = OPERATORS[name]
    if len(operands) != operator.arity:
        raise WrongArity(f"{name} takes {plural(operator.arity)}, not {len(operands)}")
    arguments = tuple(map(_as_node, operands))
    if name == "neg" and isinstance(arguments[0], Number):
        return Number(-arguments[0].value)  # -(2) is the number -2
    return Apply(name, *arguments)


def _as_node(operand: Operand) -> Expression:
    if isinstance(operand, Expression):
        return operand
    return _whole(operand) if type(operand) is int else Number(operand)


@lru_cache(maxsize=256)
def _whole(value: int) -> Number:
    """A whole number; the small ones are asked for all the time."""
    return Number(value)


def plural(count: int) -> str:
    """`1 argument`, `2 arguments`."""
    return f"{count} argument{'' if count == 1 else 's'}"


def _rebuild(rows: list[tuple[Any, ...]]) -> Expression:
    """Re-intern a pickled expression, operands first."""
    nodes: list[Expression] = []
    for kind, *fields in rows:
        if kind is Apply:
            nodes.append(Apply(fields[0], *(nodes[i] for i in fields[1:])))
        else:
            nodes.append(kind(*fields))
    return nodes[-1]
