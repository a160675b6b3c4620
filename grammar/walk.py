"""Walking through a grammar one choice at a time, as a controller does that writes a sentence.

A component is an alternative of a rule that has several; rules with one alternative ask for no
choice. Components are chosen in the order of the leftmost derivation. A choice is allowed only if
the sentence can still be finished with exactly the space's number of units: there are no dead ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actsearch.grammar.derivation import Derivation, DerivationTable, Steps
from actsearch.grammar.errors import SpaceError
from actsearch.grammar.space_grammar import Production, SpaceGrammar


class Components:
    """The vocabulary of a space: its components by number and by name, in the grammar's order.

    Args:
        table: the counts of the grammar for the space's number of units.
    """

    def __init__(self, table: DerivationTable) -> None:
        self.table = table
        self.grammar: SpaceGrammar = table.grammar
        self.productions: tuple[Production, ...] = tuple(
            p for p in self.grammar.productions if len(self.grammar.alternatives[p.rule]) > 1
        )
        self.names: tuple[str, ...] = tuple(
            f"{self.grammar.rules[p.rule]}:{p.label}" for p in self.productions
        )
        self.number_of = {p.number: component for component, p in enumerate(self.productions)}
        self.feasible = {
            children: table.feasible(children)
            for children in {p.children for p in self.grammar.productions}
            | {(rule,) for rule in range(len(self.grammar.rules))}
        }

        # Alternatives over the same children are allowed or not together.
        grouped: defaultdict[tuple[int, tuple[int, int]], list[int]] = defaultdict(list)
        for component, p in enumerate(self.productions):
            grouped[p.rule, (p.units, self.feasible[p.children])].append(component)
        self.groups: defaultdict[int, list[tuple[int, int, list[int]]]] = defaultdict(list)
        for (rule, (units, feasible)), members in grouped.items():
            self.groups[rule].append((units, feasible, members))

    def of(self, steps: Sequence[int]) -> list[int]:
        """The choices in a leftmost derivation."""
        return [self.number_of[number] for number in steps if number in self.number_of]


class Walker:
    """A sentence that is being written.

    Example:
        >>> from actsearch.grammar import space
        >>> walker = space("swish").walk()
        >>> while not walker.finished:
        ...     walker.choose(int(walker.allowed.argmax()))
        >>> walker.sentence
        'add(x, x)'
    """

    def __init__(self, components: Components) -> None:
        self._components = components
        self._grammar = components.grammar
        self._left = components.table.units
        self._steps: list[int] = []
        self._pending: list[int] = []
        # _totals[i]: bit k is set if the lowest i pending rules can take k units together.
        self._totals = [1]
        self._push((0,))
        self._advance()

    @property
    def finished(self) -> bool:
        """Whether the sentence is complete."""
        return not self._pending

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Which components may come next: a mask over the space's `components`."""
        mask = np.zeros(len(self._components.productions), dtype=np.bool_)
        if self._pending:
            for units, feasible, members in self._components.groups[self._pending[-1]]:
                mask[members] = self._fits(units, feasible)
        return mask

    def choose(self, component: int) -> None:
        """Write the next component.

        Raises:
            SpaceError: it is not allowed here, or the sentence is complete.
        """
        productions = self._components.productions
        if not 0 <= component < len(productions):
            raise SpaceError(f"there are {len(productions)} components, so none is {component}")
        production = productions[component]
        if self.finished:
            raise SpaceError(f"the sentence is complete: {self.sentence}")
        fits = self._fits(production.units, self._components.feasible[production.children])
        if production.rule != self._pending[-1] or not fits:
            allowed = [self._components.names[k] for k in np.flatnonzero(self.allowed)]
            raise SpaceError(
                f"{self._components.names[component]} cannot come next; one of "
                f"{', '.join(allowed)} can"
            )
        self._apply(production)
        self._advance()

    @property
    def derivation(self) -> Derivation:
        """The finished derivation. Raises SpaceError before it is complete."""
        if not self.finished:
            raise SpaceError(
                f"the sentence is not complete: the rule "
                f"{self._grammar.rules[self._pending[-1]]!r} is still to be derived"
            )
        return Derivation(self._grammar, self._steps)

    @property
    def sentence(self) -> str:
        """The finished sentence. Raises SpaceError before it is complete."""
        return self.derivation.sentence

    @property
    def index(self) -> int:
        """The finished sentence's index in the space. Raises SpaceError before it is complete."""
        return self._components.table.rank(self.derivation.steps)

    def _fits(self, units: int, feasible: int) -> bool:
        """Whether the rest can be finished after an alternative: `units` units of its own, and
        children that can take `feasible` units."""
        left, below = self._left - units, self._totals[-2]
        return any(feasible >> k & 1 and below >> (left - k) & 1 for k in range(left + 1))

    def _apply(self, production: Production) -> None:
        self._pending.pop()
        self._totals.pop()
        self._steps.append(production.number)
        self._left -= production.units
        self._push(production.children)

    def _advance(self) -> None:
        """Apply the productions that ask for no choice."""
        while self._pending and len(self._grammar.alternatives[self._pending[-1]]) == 1:
            self._apply(next(self._grammar.alternatives_of(self._pending[-1])))

    def _push(self, children: Steps) -> None:
        limit = (1 << (self._components.table.units + 1)) - 1
        for child in reversed(children):
            own, total, below = self._components.feasible[(child,)], 0, self._totals[-1]
            while own:
                lowest = own & -own
                total |= below * lowest
                own ^= lowest
            self._pending.append(child)
            self._totals.append(total & limit)
