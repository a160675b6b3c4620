"""Search spaces: a Lark grammar whose sentences are activation expressions, as a sequence.

A space of 1.1e12 sentences is never enumerated: sentences are counted, ranked and unranked with
exact integers from the grammar's productions.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from actsearch.grammar.derivation import Derivation, DerivationTable
from actsearch.grammar.errors import SpaceError, did_you_mean
from actsearch.grammar.expression import SCOPES, Expression, Parameter
from actsearch.grammar.language import parse
from actsearch.grammar.mutation import mutate
from actsearch.grammar.sentence import tokenise
from actsearch.grammar.space_grammar import SpaceGrammar
from actsearch.grammar.space_loader import load_grammar

if TYPE_CHECKING:
    from actsearch.grammar.walk import Components, Walker

MAX_UNITS = 500
"""The largest number of units that is counted: a few seconds for the `swish` space."""
PARAMETERS = ("independent", "shared")

_HOLE = re.compile(r"_[0-9]+")


class OutsideOfSpace(SpaceError, IndexError):
    """An index that no sentence of the space has."""


def space(
    name: str | Path,
    units: int | None = None,
    *,
    parameters: str = "independent",
    scope: str = "shared",
) -> SearchSpace:
    """The search space of a grammar.

    Args:
        name: a space that comes with the package (`space_names()`), or the path of a `.lark` file.
        units: number of core units: how often the rule `unit` is derived. 1 unless told otherwise;
            None for a grammar that has no such rule.
        parameters: "independent" makes each hole `_` a parameter of its own, "shared" makes all of
            them the one parameter `beta`.
        scope: scope of the holes' parameters, "shared" or "per channel".

    Raises:
        SpaceError: no such space, its grammar is refused, or it has no sentence of that size.
    """
    shipped = space_names()
    if str(name) in shipped:
        resource = resources.files("actsearch.grammar").joinpath(f"spaces/{name}.lark")
        text, title, source = resource.read_text("utf8"), str(name), ""
    else:
        path = Path(name)
        try:
            text, title, source = path.read_text("utf8"), path.stem, str(path)
        except (OSError, ValueError) as error:
            if path.suffix == ".lark" or len(path.parts) > 1:
                raise SpaceError(f"cannot read the grammar {str(name)!r}: {error}") from None
            raise SpaceError(
                f"there is no search space {str(name)!r}{did_you_mean(str(name), shipped)} "
                f"Known ones are {', '.join(shipped)}; a grammar of your own is given by the path "
                "of its .lark file"
            ) from None
    return SearchSpace(text, title, units, source=source, parameters=parameters, scope=scope)


def space_names() -> tuple[str, ...]:
    """The names of the spaces that come with the package."""
    folder = resources.files("actsearch.grammar").joinpath("spaces")
    files = (entry.name for entry in folder.iterdir() if entry.name.endswith(".lark"))
    return tuple(sorted(name.removesuffix(".lark") for name in files))


class SearchSpace:
    """The sentences of a grammar with a given number of units, in a fixed order.

    Sentences are ordered by the alternatives of the rules, as the file lists them, from the root
    down; among derivations of one alternative, first by how many units its first part has (fewer
    first), then by the first part itself, then likewise by the other parts, left to right.

    Args:
        text: the grammar, in Lark's format.
        name: what the space is called.
        units: exact number of derivations of the rule `unit`; 1 by default, None without that rule.
        source: path of the grammar's file, if it has one.
        parameters: "independent" or "shared": what holes become in `expression`.
        scope: scope of the holes' parameters.

    Example:
        >>> swish = space("swish", units=2)
        >>> swish.count()
        75000000
        >>> swish[12_345_678]
        'mul((add(x**2, abs(x)) + _), x**2)'

    Raises:
        SpaceError: the grammar is refused, or it has no sentence of that size.
    """

    def __init__(
        self,
        text: str,
        name: str = "space",
        units: int | None = None,
        *,
        source: str = "",
        parameters: str = "independent",
        scope: str = "shared",
    ) -> None:
        for kind, value, known in (
            ("parameters", parameters, PARAMETERS),
            ("scope", scope, SCOPES),
        ):
            if value not in known:
                listed = " or ".join(map(repr, known))
                raise SpaceError(f"{kind} is {listed}, not {value!r}{did_you_mean(value, known)}")
        self.name = name
        self.text = text
        self.source = source
        self.parameters = parameters
        self.scope = scope
        self.grammar: SpaceGrammar = load_grammar(text, name, source)
        self.units = _checked_units(self.grammar, units)
        self._size = self.units or 0
        self.table = DerivationTable(self.grammar, self._size)
        self._count = self.table.count(0, self._size)
        if self._count == 0:
            raise SpaceError(f"no sentence of the space {name!r} has exactly {units} units")

    # as a sequence

    def count(self) -> int:
        """Number of sentences, exactly."""
        return self._count

    def __len__(self) -> int:
        """`count()`; Python raises OverflowError past `sys.maxsize`."""
        return self._count

    def __bool__(self) -> bool:
        return True

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> SpaceSlice: ...
    def __getitem__(self, index: int | slice) -> str | SpaceSlice:
        """The sentence at an index, or a lazy view of a slice (for sharding)."""
        if isinstance(index, slice):
            return SpaceSlice(self, range(self._count)[index])
        return self.derivation(index).sentence

    def __iter__(self) -> Iterator[str]:
        return iter(self[:])

    def __contains__(self, sentence: object) -> bool:
        if not isinstance(sentence, str | Expression):
            return False
        try:
            self.index(sentence)
        except SpaceError:
            return False
        return True

    def index(self, sentence: str | Expression) -> int:
        """The index of a sentence; blanks do not matter. `space.index(space[i]) == i`.

        Two sentences may denote the same expression, so an Expression has an index only where its
        printed form is a sentence.

        Raises:
            SpaceError: it is no sentence of this space.
        """
        text = _printed(sentence) if isinstance(sentence, Expression) else sentence
        try:
            steps = self.grammar.parse(tokenise(text))
        except SpaceError as error:
            hint = (
                "\nan expression has an index only if its printed form is a sentence of the space"
                if isinstance(sentence, Expression)
                else ""
            )
            raise SpaceError(f"{error}{hint}") from None
        return self.rank(Derivation(self.grammar, steps))

    # derivations

    def derivation(self, index: int) -> Derivation:
        """How the grammar derives the sentence at an index.

        Raises:
            OutsideOfSpace: (an IndexError) there is no such index.
        """
        place = index.__index__()
        if not -self._count <= place < self._count:
            raise OutsideOfSpace(
                f"the space {self.name!r} has the indices 0 to {self._count - 1:,}, not {place:,}"
            )
        steps = self.table.unrank(0, self._size, place % self._count)
        return Derivation(self.grammar, steps)

    def rank(self, derivation: Derivation) -> int:
        """The index of the sentence that a derivation derives.

        Raises:
            SpaceError: it has another number of units than this space.
        """
        if derivation.units != self._size:
            raise SpaceError(
                f"{derivation.sentence!r} has {derivation.units} units; the sentences of this "
                f"space have {self._size}"
            )
        return self.table.rank(derivation.steps)

    def expression(self, index: int) -> Expression:
        """The expression that the sentence at an index denotes.

        Its holes become parameters `_1`, `_2`, … of the space's `scope`; with
        `parameters="shared"` all of them become the parameter `beta`.
        """
        expression = parse(self[index])
        if self.parameters == "independent" and self.scope == "shared":
            return expression
        replaced: dict[Expression, Expression] = {
            hole: Parameter(
                "beta" if self.parameters == "shared" else hole.name,
                hole.initial,
                self.scope,
                learning_rate=hole.learning_rate,
            )
            for hole in expression.parameters
            if _HOLE.fullmatch(hole.name)
        }
        return expression.substitute(replaced)

    # drawing and changing

    def sample(self, n: int, seed: int) -> list[str]:
        """`n` sentences, uniformly and independently drawn (with replacement)."""
        return [self[index] for index in self.sample_indices(n, seed)]

    def sample_indices(self, n: int, seed: int) -> list[int]:
        """The indices of `sample(n, seed)`."""
        rng = random.Random(seed)
        return [rng.randrange(self._count) for _ in range(n)]

    def mutate(self, index: int, rng: random.Random) -> int:
        """The index of a sentence that differs a little, for evolution.

        One of: another operator in the same place, a fresh subtree, a part in place of the whole,
        two parts exchanged. The result always differs if the space has more than one sentence.
        """
        steps = self.derivation(index).steps
        return self.table.rank(mutate(self.table, self._size, steps, rng))

    # one component at a time, for a controller

    @cached_property
    def _components(self) -> Components:
        from actsearch.grammar.walk import Components

        return Components(self.table)

    @property
    def components(self) -> tuple[str, ...]:
        """The alternatives that a controller chooses among, as "rule:alternative"."""
        return self._components.names

    def walk(self) -> Walker:
        """A walker that writes a sentence component by component."""
        from actsearch.grammar.walk import Walker

        return Walker(self._components)

    def walk_of(self, index: int) -> list[int]:
        """The components that a walker has to choose to write the sentence at an index."""
        return self._components.of(self.derivation(index).steps)

    @cached_property
    def max_steps(self) -> int:
        """The largest number of choices that a sentence takes."""
        return self.table.longest_walk(0, self._size)

    # identity

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that defines the indices and expressions: rules, units, parameters."""
        content = (self.grammar.fingerprint, self.units, self.parameters, self.scope)
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SearchSpace):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        size = "" if self.units is None else f", units={self.units}"
        return f"<space {self.name!r}{size}: {self._count:,} sentences>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (
            self.text,
            self.name,
            self.units,
            self.source,
            self.parameters,
            self.scope,
        )


class SpaceSlice(Sequence[str]):
    """A lazy view of some of a space's sentences: `space[a:b:c]`.

    Attributes:
        space: the space.
        indices: the indices in the space, as a `range`.
    """

    def __init__(self, space: SearchSpace, indices: range) -> None:
        self.space = space
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __bool__(self) -> bool:
        return bool(self.indices)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> SpaceSlice: ...
    def __getitem__(self, index: int | slice) -> str | SpaceSlice:
        if isinstance(index, slice):
            return SpaceSlice(self.space, self.indices[index])
        return self.space[self.indices[index]]

    def __iter__(self) -> Iterator[str]:
        return (self.space[index] for index in self.indices)

    def __contains__(self, sentence: object) -> bool:
        return sentence in self.space and self.space.index(sentence) in self.indices  # type: ignore[arg-type]

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """The position of a sentence in this view. Raises SpaceError where it is not in it."""
        index = self.space.index(value)
        if index not in self.indices[start:stop]:
            raise SpaceError(
                f"{value!r} has the index {index:,} in the space, outside of the slice"
            )
        return self.indices.index(index)

    def __repr__(self) -> str:
        return f"<{self.indices} of {self.space!r}>"


def _checked_units(grammar: SpaceGrammar, units: int | None) -> int | None:
    if not grammar.has_units:
        if units is not None:
            raise SpaceError(
                f"the space {grammar.name!r} has no rule 'unit', so its size cannot be chosen"
            )
        return None
    if units is None:
        return 1
    if isinstance(units, bool) or not isinstance(units, int) or not 0 <= units <= MAX_UNITS:
        raise SpaceError(f"units is a whole number up to {MAX_UNITS}, not {units!r}")
    return units


def _printed(expression: Expression) -> str:
    """The printed form, with the holes' names turned back to `_` where that changes nothing."""
    text = str(expression)
    anonymous = re.sub(r"\b_[0-9]+\b", "_", text)
    return anonymous if anonymous != text and parse(anonymous) is expression else text


def _rebuild(
    text: str, name: str, units: int | None, source: str, parameters: str, scope: str
) -> SearchSpace:
    return SearchSpace(text, name, units, source=source, parameters=parameters, scope=scope)
