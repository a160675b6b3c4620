"""Grammars that are no search spaces: each is refused with a message that names the rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from actsearch.grammar import SearchSpace, SpaceError, space
from actsearch.grammar.lalr import Conflict, SentenceParser

Productions = list[tuple[int, list[str | int]]]

REFUSED = {
    "a regular expression in a terminal": (
        'start: "sin(" inner ")"\ninner: NUM\nNUM: /[0-9]+/',
        "the rule 'inner' uses the terminal NUM = /[0-9]+/",
    ),
    "a regular expression in a rule": (
        'start: "sin(" inner ")"\ninner: /[a-z]+/',
        "the rule 'inner' uses the regular expression /[a-z]+/",
    ),
    "an imported terminal": (
        '%import common.NUMBER\nstart: "x+" NUMBER',
        "the rule 'start' uses the terminal NUMBER",
    ),
    "alternatives in a terminal": (
        'start: "x" OP "x"\nOP: "+" | "-"',
        "the rule 'start' uses the terminal OP",
    ),
    "a string in any case": ('start: "x"i', "the rule 'start' uses"),
    "a declared terminal": ("%declare FOO\nstart: FOO", "'start' uses the terminal FOO, declared"),
    "left recursion": (
        'start: sum\nsum: sum "+" "x" | "x"',
        "the rule 'sum' recurs without deriving a unit (sum -> sum)",
    ),
    "recursion through two rules": (
        'start: a\na: "sin(" b ")" | "x"\nb: "cos(" a ")"',
        "recurs without deriving a unit (a -> b -> a)",
    ),
    "recursion that could go through a unit but need not": (
        'start: unit\nunit: "sin(" a ")" | "x"\na: "cos(" a ")" | unit',
        "the rule 'a' recurs without deriving a unit",
    ),
    "an unreachable rule": (
        'start: "x"\nother: "sin(x)"',
        "the rule 'other' cannot be reached from 'start'",
    ),
    "unreachable rules that use each other": (
        'start: "x"\na: "sin(" b ")" | "x"\nb: "cos(" a ")"',
        "the rule 'a' cannot be reached",
    ),
    "an unused template": (
        'start: "x"\npair{l, r}: l "+" r',
        "the rule 'pair' cannot be reached",
    ),
    "an empty rule": ("start: a\na: ", "the rule 'a' has an empty alternative"),
    "an empty alternative": ('start: a "x"\na: | "-"', "the rule 'a' has an empty alternative"),
    "an optional whole": ('start: a\na: ["x"]', "the rule 'a' has an empty alternative"),
    "an ambiguous sentence": (
        'start: unit\nunit: unit "+" unit | "x"',
        "the rule 'unit' is ambiguous: 'x + x + x' can be derived in two ways",
    ),
    "two rules for one sentence": (
        'start: a | b\na: "x" | "-x"\nb: "x"',
        "the rules 'a' and 'b' are ambiguous: 'x' can be derived in two ways",
    ),
    "a priority that would hide an ambiguity": (
        'start: a | b\na.2: "x"\nb: "x"',
        "the rules 'a' and 'b' are ambiguous",
    ),
    "a dangling branch, which lark would resolve": (
        'start: unit\nunit: "-" unit | "-" unit "+" unit | "x"',
        "the rule 'unit' is ambiguous: '--x + x'",
    ),
    "a unit that is itself": (
        'start: unit\nunit: unit | "x"',
        "'unit' are ambiguous: 'x' can be derived in two ways",
    ),
    "a start that is itself": (
        'start: unit\nunit: "x" | start',
        "the rule 'unit' is ambiguous: 'x' can be derived in two ways",
    ),
    "two equal alternatives": (
        'start: "x+x" | "x" "+ x"',
        "the rule 'start' has two alternatives that read the same: x + x",
    ),
    "an alias where lark allows none": (
        'start: _a\n_a: "x" -> named | "-x"',
        "Rule _a is marked for expansion",
    ),
    "unambiguous, but not LALR(1)": (
        'start: a "x" "+" "x" | b "x" "-" "x"\na: "sin(x)*"\nb: "sin(x)*"',
        "the rules 'a' and 'b' are not LALR(1): one token ahead, at 'x'",
    ),
    "an undefined rule": ('start: "sin(" foo ")"', "Rule 'foo' used but not defined"),
    "no Lark at all": ('start: "x" |\n  ) "y"', "line 2 column 3"),
    "nothing": ("", "has no rule 'start'"),
    "another start": ('begin: "x"', "has no rule 'start'"),
    "an unknown function": (
        'start: "foo(" arg ")"\narg: "x" | "sin(x)"',
        "the rule 'start' derives 'foo(x)' by its alternative foo(arg), which is not an activation",
    ),
    "a bad alternative among good ones": (
        'start: "sin(" arg ")"\narg: "x" | "x x"',
        "the rule 'arg' derives 'sin(x x)'",
    ),
    "a comparison alone": ('start: "x > 0"', "a comparison stands only"),
    "a character that the language lacks": (
        'start: "x ^ 2"',
        "in the rule 'start', the character '^'",
    ),
    "two tokens that would read as one": (
        'start: "x" s\ns: "*" t\nt: "*x" | "x"',
        "the rule 'start' derives 'x* *x'",
    ),
    "repetition with *": ('start: "x" ("+x")*', "the rule 'start' repeats with '*'"),
    "repetition with +": (
        'start: more\nmore: "x" "+x"+',
        "the rule 'more' repeats with '+' without end",
    ),
    "a unit without end": (
        'start: unit\nunit: "sin(" unit ")"',
        "the rule 'unit' never ends",
    ),
    "a missing import": ("%import .nofile.foo\nstart: foo", "imports a file that cannot be read"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused_with_the_rule_named(why: str) -> None:
    text, message = REFUSED[why]
    with pytest.raises(SpaceError) as caught:
        SearchSpace(text, "mine")
    assert message in str(caught.value)
    assert str(caught.value).startswith("mine is no search space: ")
    assert len(str(caught.value)) < 1_000


def test_every_kind_of_conflict_is_refused() -> None:
    shift_reduce: Productions = [(0, [0, "+", 0]), (0, ["x"])]
    reduce_reduce: Productions = [(0, [1]), (0, [2]), (1, ["x"]), (2, ["x"])]
    reduce_accept: Productions = [(0, [1]), (1, [0]), (1, ["x"])]
    for productions in (shift_reduce, reduce_reduce, reduce_accept):
        with pytest.raises(Conflict) as caught:
            SentenceParser(productions)
        assert caught.value.rules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swsh", "there is no search space 'swsh'; did you mean 'swish'?"),
        ("missing.lark", "cannot read the grammar 'missing.lark'"),
        ("some/where", "cannot read the grammar 'some/where'"),
    ],
)
def test_missing_spaces(name: str, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        space(name)
    assert message in str(caught.value)


def test_a_grammar_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.lark"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpaceError, match="cannot read the grammar"):
        space(path)


@pytest.mark.parametrize(
    ("name", "units", "message"),
    [
        ("swish", 0, "no sentence of the space 'swish' has exactly 0 units"),
        ("swish", -1, "a whole number up to 500"),
        ("swish", True, "a whole number up to 500"),
        ("swish", 501, "a whole number up to 500"),
        ("actbench", 1, "no rule 'unit'"),
    ],
)
def test_sizes_that_a_space_does_not_have(name: str, units: int, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        space(name, units)


@pytest.mark.parametrize("option", ["parameters", "scope"])
def test_unknown_options(option: str) -> None:
    with pytest.raises(SpaceError, match=f"{option} is .* or 'shared'|{option} is 'shared' or"):
        space("swish", **{option: "sharde"})  # type: ignore[arg-type]
