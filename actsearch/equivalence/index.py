"""The index: hands out classes, one expression at a time, and keeps the certificate of each link.

Stages, cheap to dear: the same text, the same normal form, fingerprints that come close, and then a
certificate, or a witness, against each class that they propose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from actsearch.equivalence.certificate import (
    Certificate,
    Deadline,
    Decision,
    Witness,
    complete,
    decide,
    decision_from_dict,
    decision_to_dict,
    rename,
)
from actsearch.equivalence.changes import LEVELS
from actsearch.equivalence.families import Member, canonical, replayed
from actsearch.equivalence.fingerprint import Fingerprint, Pool, SortedKeys
from actsearch.equivalence.normal_form import normal_form
from actsearch.equivalence.proof_cache import ProofCache
from actsearch.grammar.errors import UsageError, did_you_mean
from actsearch.grammar.expression import Expression, Parameter
from actsearch.grammar.language import as_expression


@dataclass(frozen=True)
class Link:
    """An edge of the equivalence graph: two members of a class, by number, and why."""

    first: int
    second: int
    certificate: Certificate


@dataclass(frozen=True)
class Doubt:
    """Two members that fingerprints propose to merge, and that could not be settled."""

    first: int
    second: int
    reason: str


@dataclass(eq=False)
class _Class:
    anchor: int
    expression: Expression
    fingerprint: Fingerprint


class EquivalenceIndex:
    """Classes of equivalent expressions, built one expression at a time.

    Adding the same expressions in the same order gives the same classes, numbered from 0 in order
    of appearance; so a saved list of expressions is the state.

    Args:
        level: "function": the same function of x and its parameters, up to renaming these;
            "reparameterised" and "affine" are coarser (`changes.LEVELS`).
        seed: another seed, other points for fingerprints and certificates.
        seconds: time limit for one decision; one that takes longer stays open (see `doubts`), and
            the expression gets a class of its own.
        declarations: whether parameters must also be declared alike (initial value, scope, learning
            rate) to be identified, as they must be for a trained network to be the same.
        cache: where decisions are kept, and looked up before they are made; classes and
            certificates are the same without it. A decision that ran into the time limit is not
            kept.

    Raises:
        UsageError: no such level.
    """

    def __init__(
        self,
        level: str = "function",
        seed: int = 0,
        seconds: float = 10.0,
        declarations: bool = False,
        cache: ProofCache | None = None,
    ) -> None:
        check_level(level)
        if declarations and level != "function":
            raise UsageError('declarations count at the level "function" only')
        self._declarations = declarations
        self.level = level
        self.expressions: list[Expression] = []
        self.class_of: list[int] = []
        self.links: list[Link] = []
        self.doubts: list[Doubt] = []
        self.refusals = 0
        self._seed = seed
        self._seconds = seconds
        self._cache = cache
        self._pool = Pool(seed)
        self._keys = SortedKeys()
        self._classes: list[_Class] = []
        self._by_expression: dict[Expression, int] = {}
        self._by_form: dict[tuple[object, ...], int] = {}
        # For each coarser level an index of canonical members, one for each class of the level
        # below; so the classes of a level are unions of those below it.
        coarser = LEVELS[1 : LEVELS.index(level) + 1]
        self._families = {
            name: EquivalenceIndex("function", seed, seconds, cache=cache) for name in coarser
        }

    def __len__(self) -> int:
        """Number of classes."""
        return len(self._families[self.level] if self._families else self._classes)

    def find_or_add(self, expression: str | Expression) -> tuple[int, bool, Certificate | None]:
        """The class of an expression, a new one if none is proved or certified to hold it.

        Returns:
            The class's number, whether it is new, and the certificate that links the expression to
            an earlier member (None for a new class).
        """
        expression = as_expression(expression)
        member = self._enter(expression)
        link = self._link(member, expression) or self._family_link(member, expression)
        if link is None:
            self.class_of.append(len(self) - 1)
            return self.class_of[member], True, None
        self.links.append(link)
        self.class_of.append(self.class_of[link.first])
        return self.class_of[member], False, link.certificate

    def find(self, expression: str | Expression) -> int | None:
        """The class of an expression that was added before, as it was written; else None."""
        member = self._by_expression.get(as_expression(expression))
        return None if member is None else self.class_of[member]

    def lookup(self, expression: str | Expression) -> int | None:
        """The class that an expression belongs to, if there is one; nothing is added."""
        expression = as_expression(expression)
        known = self.find(expression)
        if known is not None:
            return known
        view = _View(expression)
        key = self._form_key(view)
        if key in self._by_form:
            return self.class_of[self._by_form[key]]
        link = self._settle(len(self.expressions), view, self._fingerprint(view))
        if link is not None:
            return self.class_of[link.first]
        for level, families in self._families.items():
            number = families.lookup(self._canonical(expression, level)[0])
            if number is not None:
                return self.class_of[self._anchor_of(level, number)]
        return None

    def open(self, expression: str | Expression) -> int:
        """A new class for an expression that is known to be in none; its number."""
        view = _View(as_expression(expression))
        member = self._enter(view.expression)
        self._by_expression.setdefault(view.expression, member)
        self._by_form.setdefault(self._form_key(view), member)
        self._open(member, view, self._fingerprint(view))
        for level, families in self._families.items():
            families.open(self._canonical(view.expression, level)[0])
        self.class_of.append(len(self) - 1)
        return self.class_of[member]

    def anchor(self, number: int) -> Expression:
        """The member that opened the class."""
        return self.expressions[self._anchor_of(self.level, number)]

    def opener(self, number: int) -> int:
        """The number of the member that opened the class."""
        return self._anchor_of(self.level, number)

    def _anchor_of(self, level: str, number: int) -> int:
        """The member that opened a class of this level or a finer one."""
        for coarser in reversed(LEVELS[1 : LEVELS.index(level) + 1]):
            number = self._families[coarser].opener(number)
        return self._classes[number].anchor

    def open_doubts(self) -> list[Doubt]:
        """The doubts between members that no certified links joined after all."""
        doubts = list(self.doubts)
        for place, families in enumerate(self._families.values()):
            below = LEVELS[place]
            doubts += [
                Doubt(self._anchor_of(below, d.first), self._anchor_of(below, d.second), d.reason)
                for d in families.doubts
            ]
        return [d for d in doubts if self.class_of[d.first] != self.class_of[d.second]]

    def _enter(self, expression: Expression) -> int:
        self.expressions.append(expression)
        return len(self.expressions) - 1

    def _link(self, member: int, expression: Expression) -> Link | None:
        """The link to an earlier member; None after opening a new class."""
        earlier = self._by_expression.setdefault(expression, member)
        if earlier != member:
            return Link(earlier, member, Certificate("proved", "identical"))
        view = _View(expression)
        earlier = self._by_form.setdefault(self._form_key(view), member)
        if earlier != member:
            others = [p.name for p in self.expressions[earlier].parameters]
            by_place = dict(zip(view.names, others, strict=False))
            renaming = tuple(complete(by_place, others, view.names).items())
            return Link(earlier, member, Certificate("proved", "normal form", renaming))
        fingerprint = self._fingerprint(view)
        link = self._settle(member, view, fingerprint)
        if link is None:
            self._open(member, view, fingerprint)
        return link

    def _family_link(self, member: int, expression: Expression) -> Link | None:
        """At a coarser level: the link from a new function to another one of its family."""
        for place, (level, families) in enumerate(self._families.items()):
            own, change = self._canonical(expression, level)
            _, is_new, certificate = families.find_or_add(own)
            if is_new or certificate is None:
                continue
            earlier = self._anchor_of(LEVELS[place], families.links[-1].first)
            _, other = self._canonical(self.expressions[earlier], level)
            certificate = replace(certificate, first=other.to_pairs(), second=change.to_pairs())
            return Link(earlier, member, certificate)
        return None

    def _form_key(self, view: _View) -> tuple[object, ...]:
        if not self._declarations:
            return (view.form,)
        used = {parameter.name for parameter in view.form.parameters}
        kept = [p for p in view.expression.parameters if view.numbers[p.name] in used]
        return (view.form, *map(_declaration, kept))

    def _alike(self, renaming: Mapping[str, str], a: Expression, b: Expression) -> bool:
        """Whether a renaming identifies only parameters that may be identified."""
        if not self._declarations:
            return True
        first = {parameter.name: _declaration(parameter) for parameter in a.parameters}
        second = {parameter.name: _declaration(parameter) for parameter in b.parameters}
        return all(second[old] == first[new] for old, new in renaming.items())

    def _fingerprint(self, view: _View) -> Fingerprint:
        """Of the normal form: fewer operators, shared sub-terms; its parameters by their names."""
        found = self._pool.fingerprint(view.form)
        named = {view.original[name]: values for name, values in found.parameters.items()}
        return Fingerprint(found.base, named, found.key)

    def _open(self, member: int, view: _View, fingerprint: Fingerprint) -> None:
        self._keys.add(fingerprint.key, len(self._classes))
        self._classes.append(_Class(member, view.expression, fingerprint))

    def _settle(self, member: int, view: _View, fingerprint: Fingerprint) -> Link | None:
        """The link to the class that fingerprints propose and a certificate confirms."""
        window = self._pool.window * (1 + len(fingerprint.parameters))
        for number in self._keys.near(fingerprint.key, window):
            found = self._classes[number]
            if not found.fingerprint.matches(fingerprint):
                continue
            renamings = [
                renaming
                for renaming in found.fingerprint.renamings(fingerprint)
                if self._alike(renaming, found.expression, view.expression)
            ]
            if not renamings:
                continue
            decision = self._decide(found.expression, view.expression, renamings)
            if isinstance(decision, Certificate):
                return Link(found.anchor, member, decision)
            if isinstance(decision, Witness):
                self.refusals += 1
            else:
                self.doubts.append(Doubt(found.anchor, member, decision.reason))
        return None

    def _decide(
        self, a: Expression, b: Expression, renamings: Sequence[Mapping[str, str]]
    ) -> Decision:
        """`decide`, or what it found before."""
        pairs = [list(renaming.items()) for renaming in renamings]
        question = "decision", str(a), str(b), pairs, self._seed
        known = None if self._cache is None else self._cache.get(*question)
        if known is not None:
            return decision_from_dict(known)
        deadline = Deadline(self._seconds)
        decision = decide(a, b, renamings, deadline, self._seed)
        if self._cache is not None and not deadline.passed:
            self._cache.put(decision_to_dict(decision), *question)
        return decision

    def _canonical(self, expression: Expression, level: str) -> Member:
        """`canonical`, or what it found before, after a check that it belongs to the family."""
        if self._cache is None:
            return canonical(expression, level)
        question = "canonical", level, str(expression)
        known = self._cache.get(*question)
        member = None if known is None else replayed(expression, *known)
        if member is None:
            member = canonical(expression, level)
            self._cache.put([str(member[0]), dict(member[1].to_pairs())], *question)
        return member


def _declaration(parameter: Parameter) -> tuple[object, ...]:
    """All of a parameter's declaration but its name."""
    return (
        parameter.initial,
        parameter.scope,
        parameter.dimension,
        parameter.learning_rate,
    )


class _View:
    """An expression with its normal form, in which parameters are numbered by appearance."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        self.names = [parameter.name for parameter in expression.parameters]
        self.numbers = {name: f"_{place}" for place, name in enumerate(self.names, 1)}
        self.original = {number: name for name, number in self.numbers.items()}
        self.form = normal_form(rename(expression, self.numbers))


def check_level(level: str) -> None:
    """Raise for a level that there is not."""
    if level not in LEVELS:
        known = ", ".join(repr(name) for name in LEVELS)
        raise UsageError(
            f"no equivalence level {level!r}{did_you_mean(level, LEVELS)}; there are {known}"
        )
