"""From a Lark grammar's text to a checked `SpaceGrammar`, or to an error that names the rule.

What a space must be: finite for every number of units, unambiguous (LALR(1)), without useless
rules, and made of sentences that are activation expressions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any

from actsearch.grammar.derivation import DerivationTable
from actsearch.grammar.errors import ExpressionError, SpaceError
from actsearch.grammar.lalr import Conflict
from actsearch.grammar.sentence import render, tokenise
from actsearch.grammar.space_grammar import UNIT, Production, SpaceGrammar

START = "start"
_SEARCHED_SENTENCES = 1_000  # of each size, for an example of an ambiguous one
_SEARCHED_UNITS = 9

Bodies = dict[str, list[tuple[str | None, list[str | tuple[str]]]]]
"""Rule -> its alternatives, each an alias and symbols: tokens, and rules as 1-tuples."""


def load_grammar(text: str, name: str, source: str = "") -> SpaceGrammar:
    """The grammar of a search space.

    Args:
        text: a grammar in Lark's format. Its start rule is `start`; the rule `unit`, if there is
            one, is what the size of a space counts.
        name: what the space is called.
        source: path of the file, for messages and relative imports.

    Raises:
        SpaceError: the grammar is none, or not that of a search space.
    """
    # Imported files may change between two loads.
    return (_load.__wrapped__ if "%import" in text else _load)(text, name, source)


@lru_cache(maxsize=64)
def _load(text: str, name: str, source: str) -> SpaceGrammar:
    where = source or name
    try:
        bodies = _bodies(text, where)
        _check_reachable(bodies)
        grammar = _numbered(bodies, name, _check_recursion(bodies))
        shortest = _shortest(grammar)
        _check_distinct(grammar)
        _check_unambiguous(grammar)
        _check_expressions(grammar, shortest)
    except SpaceError as error:
        raise SpaceError(f"{where} is no search space: {error}") from None
    return grammar


def _bodies(text: str, source: str) -> Bodies:
    """The alternatives of every rule as lark compiles them, with the strings cut into tokens."""
    from lark.exceptions import LarkError
    from lark.lexer import PatternStr
    from lark.load_grammar import load_grammar as load_lark

    try:
        lark_grammar, _ = load_lark(text, source, [], False)  # type: ignore[no-untyped-call]
    except LarkError as error:
        raise SpaceError(f"it is not a valid Lark grammar.\n{error}") from None
    except OSError as error:
        raise SpaceError(f"it imports a file that cannot be read: {error}") from None
    defined = [(name, parameters) for name, parameters, _, _ in lark_grammar.rule_defs]
    if START not in dict(defined):
        raise SpaceError(f"it has no rule {START!r}, from which the sentences are derived")
    for name, _, tree, _ in lark_grammar.rule_defs:
        _check_repetition(name, tree)
    try:
        terminals, rules, _ = lark_grammar.compile([START], "*")
    except LarkError as error:
        raise SpaceError(str(error)) from None

    strings = {t.name: t.pattern for t in terminals}
    bodies: Bodies = {}
    for rule in rules:
        name = str(rule.origin.name)
        symbols: list[str | tuple[str]] = []
        for symbol in rule.expansion:
            if not symbol.is_term:
                symbols.append((str(symbol.name),))
                continue
            pattern = strings.get(symbol.name)
            if not isinstance(pattern, PatternStr) or pattern.flags:
                raise SpaceError(
                    f"the rule {name!r} uses {_shown(symbol.name, pattern)}, which is not one "
                    "plain string; list the strings as alternatives of a rule"
                )
            symbols += _tokens_of(str(pattern.value), name)
        if not symbols:
            raise SpaceError(f"the rule {name!r} has an empty alternative")
        alias = None if rule.alias is None else str(rule.alias)
        bodies.setdefault(name, []).append((alias, symbols))
    instances = {name.partition("{")[0] for name in bodies if "{" in name}
    for name, parameters in defined:
        if name not in (instances if parameters else bodies):
            raise SpaceError(f"the rule {str(name)!r} cannot be reached from {START!r}")
    return bodies


def _shown(terminal: str, pattern: Any) -> str:
    """A terminal as its author wrote it, as far as lark tells."""
    if pattern is None:
        return f"the terminal {terminal}, declared but not defined"
    expression = str(pattern.to_regexp())
    shortened = expression if len(expression) <= 40 else expression[:40] + "…"
    if terminal.startswith("__"):
        return f"the regular expression /{shortened}/"
    return f"the terminal {terminal} = /{shortened}/"


def _tokens_of(string: str, rule: str) -> list[str]:
    try:
        return tokenise(string)
    except SpaceError as error:
        raise SpaceError(f"in the rule {rule!r}, {error}") from None


def _check_repetition(rule: str, tree: Any) -> None:
    for expression in tree.find_data("expr"):
        operator = str(expression.children[1])
        if operator in ("*", "+"):
            raise SpaceError(
                f"the rule {str(rule)!r} repeats with {operator!r} without end; a space is bounded "
                f"by its number of units only, so let the rule {UNIT!r} recur instead"
            )


def _rules_in(symbols: list[str | tuple[str]]) -> Iterator[str]:
    return (symbol[0] for symbol in symbols if isinstance(symbol, tuple))


def _check_reachable(bodies: Bodies) -> None:
    reached = {START}
    pending = [START]
    while pending:
        for _, symbols in bodies[pending.pop()]:
            for rule in _rules_in(symbols):
                if rule not in reached:
                    reached.add(rule)
                    pending.append(rule)
    for rule in bodies:
        if rule not in reached:
            raise SpaceError(f"the rule {rule!r} cannot be reached from {START!r}")


def _check_recursion(bodies: Bodies) -> list[str]:
    """The rules in an order in which each follows those that it needs within one unit."""
    needed = {
        rule: [child for _, symbols in alternatives for child in _rules_in(symbols)]
        for rule, alternatives in bodies.items()
    }
    needed.pop(UNIT, None)
    inner = {rule: [c for c in children if c != UNIT] for rule, children in needed.items()}
    try:
        order = list(TopologicalSorter(inner).static_order())
    except CycleError as error:
        cycle = " -> ".join(reversed(error.args[1]))
        raise SpaceError(
            f"the rule {error.args[1][0]!r} recurs without deriving a unit ({cycle}), so its "
            f"sentences have no bound; recursion has to pass through the rule {UNIT!r}"
        ) from None
    return ([UNIT] if UNIT in bodies else []) + order


def _numbered(bodies: Bodies, name: str, order: list[str]) -> SpaceGrammar:
    names = [START, *(rule for rule in bodies if rule != START)]
    numbers = {rule: number for number, rule in enumerate(names)}
    productions: list[Production] = []
    alternatives: list[tuple[int, ...]] = []
    for rule in names:
        first = len(productions)
        for place, (label, (_, symbols)) in enumerate(
            zip(_labels(bodies[rule]), bodies[rule], strict=True)
        ):
            productions.append(
                Production(
                    number=len(productions),
                    rule=numbers[rule],
                    place=place,
                    label=label,
                    symbols=tuple(s if isinstance(s, str) else numbers[s[0]] for s in symbols),
                    units=int(rule == UNIT),
                )
            )
        alternatives.append(tuple(range(first, len(productions))))
    return SpaceGrammar(
        name=name,
        rules=tuple(names),
        productions=tuple(productions),
        alternatives=tuple(alternatives),
        order=tuple(numbers[rule] for rule in order),
    )


def _labels(alternatives: list[tuple[str | None, list[str | tuple[str]]]]) -> list[str]:
    """A distinct name for each alternative of a rule: its alias or its text."""
    aliases = Counter(alias for alias, _ in alternatives)
    labels = [
        alias
        if alias is not None and aliases[alias] == 1
        else render(s if isinstance(s, str) else s[0] for s in symbols)
        for alias, symbols in alternatives
    ]
    seen: Counter[str] = Counter()
    for place, label in enumerate(labels):
        seen[label] += 1
        if seen[label] > 1:
            labels[place] = f"{label} #{seen[label]}"
    return labels


def _shortest(grammar: SpaceGrammar) -> list[tuple[int, ...]]:
    """For each rule a shortest derivation.

    Raises:
        SpaceError: a rule derives nothing but itself again and again.
    """
    shortest: dict[int, tuple[int, ...]] = {}
    changed = True
    while changed:
        changed = False
        for production in grammar.productions:
            if not all(child in shortest for child in production.children):
                continue
            steps = (production.number, *(s for c in production.children for s in shortest[c]))
            known = shortest.get(production.rule)
            if known is None or len(steps) < len(known):
                shortest[production.rule] = steps
                changed = True
    endless = [rule for rule in range(len(grammar.rules)) if rule not in shortest]
    if endless:
        # Each alternative of an endless rule has an endless part; following them ends in a cycle.
        rule, seen = endless[0], set()
        while rule not in seen:
            seen.add(rule)
            first = grammar.productions[grammar.alternatives[rule][0]]
            rule = next(child for child in first.children if child not in shortest)
        raise SpaceError(
            f"the rule {grammar.rules[rule]!r} never ends: each of its alternatives needs it again"
        )
    return [shortest[number] for number in range(len(grammar.rules))]


def _check_distinct(grammar: SpaceGrammar) -> None:
    seen: dict[tuple[int, tuple[str | int, ...]], Production] = {}
    for production in grammar.productions:
        first = seen.setdefault((production.rule, production.symbols), production)
        if first is not production:
            raise SpaceError(
                f"the rule {grammar.rules[production.rule]!r} has two alternatives that read the "
                f"same: {grammar.text_of(production)}"
            )


def _check_unambiguous(grammar: SpaceGrammar) -> None:
    try:
        _ = grammar.parser
    except Conflict as conflict:
        named = " and ".join(repr(grammar.rules[number]) for number in conflict.rules)
        rules = f"the rule {named}" if len(conflict.rules) == 1 else f"the rules {named}"
        verb = "is" if len(conflict.rules) == 1 else "are"
        example = _ambiguous_sentence(grammar)
        if example is not None:
            message = f"{rules} {verb} ambiguous: {example!r} can be derived in two ways"
        else:
            token = "the end" if conflict.token == "$END" else repr(conflict.token)
            message = (
                f"{rules} {verb} not LALR(1): one token ahead, at {token}, a parser cannot tell "
                "which alternative it reads"
            )
        raise SpaceError(f"{message}; set the alternatives apart by a function name") from None


def _ambiguous_sentence(grammar: SpaceGrammar) -> str | None:
    """A sentence with two derivations, if there is one among the first sentences."""
    seen: dict[str, tuple[int, ...]] = {}
    table = DerivationTable(grammar, _SEARCHED_UNITS if grammar.has_units else 0)
    for units in range(table.units + 1):
        for rank in range(min(table.count(0, units), _SEARCHED_SENTENCES)):
            steps = table.unrank(0, units, rank)
            sentence = grammar.render(steps)
            if seen.setdefault(sentence, steps) != steps:
                return sentence
    return None


def _check_expressions(grammar: SpaceGrammar, shortest: list[tuple[int, ...]]) -> None:
    """Parse one short sentence through every production as an activation expression."""
    from actsearch.grammar.language import parse

    context = _shortest_context(grammar)
    for production in grammar.productions:
        steps = (production.number, *(s for c in production.children for s in shortest[c]))
        rule = production.rule
        while rule != 0:
            above, place = context[rule]
            parts = [shortest[child] for child in above.children]
            parts[place] = steps
            steps = (above.number, *(step for part in parts for step in part))
            rule = above.rule
        sentence = grammar.render(steps)
        try:
            parse(sentence)
        except ExpressionError as error:
            raise SpaceError(
                f"the rule {grammar.rules[production.rule]!r} derives {sentence!r} by its "
                f"alternative {production.label}, which is not an activation expression.\n{error}"
            ) from None


def _shortest_context(grammar: SpaceGrammar) -> Mapping[int, tuple[Production, int]]:
    """For each rule but the start rule, a production that leads to it, and the child's place."""
    context: dict[int, tuple[Production, int]] = {}
    pending = [0]
    for rule in pending:
        for production in grammar.alternatives_of(rule):
            for place, child in enumerate(production.children):
                if child != 0 and child not in context:
                    context[child] = (production, place)
                    pending.append(child)
    return context
