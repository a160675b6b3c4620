"""The partition of a set of candidates into classes of equal functions, with its certificates."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import networkx as nx
import numpy as np

from actsearch.equivalence import archives
from actsearch.equivalence.certificate import Certificate
from actsearch.equivalence.facts import is_constant, is_linear, undefined_at
from actsearch.equivalence.holes import check_parameters, with_holes
from actsearch.equivalence.index import Doubt, EquivalenceIndex, Link, check_level
from actsearch.equivalence.verdict import equivalent
from actsearch.grammar.errors import UsageError
from actsearch.grammar.expression import Expression
from actsearch.grammar.named import NamedActivation, named_activations
from actsearch.grammar.search_space import SearchSpace

_LARGEST_GRAPHML = 20_000
FORMAT = 2
"""Version of the saved files."""


class NotEquivalent(UsageError):
    """Two candidates of different classes were asked for the chain that links them."""


@dataclass(frozen=True)
class Step:
    """One link of a chain: two candidates and the certificate that they are equal."""

    first: str
    second: str
    certificate: Certificate

    def __str__(self) -> str:
        return f"{self.first}  =  {self.second}    {self.certificate}"


class EquivalenceClasses:
    """Candidates grouped into classes of equal functions.

    Candidates are numbered from 0 in the order in which they were given, classes from 0 in order of
    their first members.

    Args:
        candidates: the texts of the candidates.
        class_numbers: the class of each.
        links: the certified links, which connect exactly the members of each class.
        doubts: pairs that fingerprints propose to merge, and that could not be settled.
        level: what counts as the same.
        seconds: how long the grouping took.
        parameters: "independent": each hole of a candidate is a parameter of its own; "shared":
            all of them are one.
        index: the index that grouped them, where it is at hand.
    """

    def __init__(
        self,
        candidates: Sequence[str],
        class_numbers: Sequence[int],
        links: Sequence[Link],
        doubts: Sequence[Doubt] = (),
        level: str = "function",
        seconds: float = 0.0,
        parameters: str = "independent",
        index: EquivalenceIndex | None = None,
    ) -> None:
        self._given_index = index
        self.candidates = tuple(candidates)
        self.links = tuple(links)
        self.doubts = tuple(doubts)
        self.level = level
        self.seconds = seconds
        self.parameters = parameters
        self._class_numbers = tuple(class_numbers)
        self._members: dict[int, list[int]] = {}
        for member, number in enumerate(self._class_numbers):
            self._members.setdefault(number, []).append(member)

    @property
    def count(self) -> int:
        """Number of classes."""
        return len(self._members)

    def __len__(self) -> int:
        return self.count

    def class_of(self, candidate: int | str | Expression) -> int:
        """The class of a candidate, or of any expression that equals one.

        Args:
            candidate: an index, or an expression or its text.

        Raises:
            KeyError: no candidate equals it.
        """
        if isinstance(candidate, int):
            if not 0 <= candidate < len(self.candidates):
                raise KeyError(f"candidates are numbered 0 to {len(self.candidates) - 1}")
            return self._class_numbers[candidate]
        expression = with_holes(candidate, self.parameters)
        member = self._by_expression.get(expression)
        if member is not None:
            return self._class_numbers[member]
        found = self._index.lookup(expression)
        if found is None:
            raise KeyError(f"none of the {len(self.candidates)} candidates equals {expression}")
        return found

    def indices(self, number: int) -> tuple[int, ...]:
        """The indices of a class's members."""
        if number not in self._members:
            raise KeyError(f"classes are numbered 0 to {self.count - 1}")
        return tuple(self._members[number])

    def members(self, number: int) -> tuple[str, ...]:
        """The texts of a class's members."""
        return tuple(self.candidates[index] for index in self.indices(number))

    def representative(self, number: int) -> str:
        """The member to show: one that is spelled as a named activation, the cheapest, shortest."""
        named = {activation.expression for activation in named_activations().values()}

        def rank(text: str) -> tuple[bool, float, int, str]:
            expression = with_holes(text, self.parameters)
            return expression not in named, expression.cost, len(text), text

        return min(self.members(number), key=rank)

    def name(self, number: int) -> NamedActivation | None:
        """The named activation that the class is, if it is one."""
        return self._names.get(number)

    def why(
        self, first: int | str | Expression, second: int | str | Expression
    ) -> tuple[Step, ...]:
        """The shortest chain of certified links from one candidate to another.

        Raises:
            KeyError: not among the candidates.
            NotEquivalent: they are in different classes; the message has a point that tells them
                apart.
        """
        start, end = self._candidate(first), self._candidate(second)
        if self._class_numbers[start] != self._class_numbers[end]:
            texts = self.candidates[start], self.candidates[end]
            decision = equivalent(*texts, self.level, parameters=self.parameters)
            raise NotEquivalent(f"{texts[0]} and {texts[1]} are not linked: {decision}")
        path = nx.shortest_path(self.graph, start, end)
        return tuple(
            Step(self.candidates[a], self.candidates[b], self.graph.edges[a, b]["certificate"])
            for a, b in itertools.pairwise(path)
        )

    @cached_property
    def graph(self) -> nx.Graph[int]:
        """Candidates as nodes (`text`, `class`), certified links as edges (`certificate`)."""
        graph: nx.Graph[int] = nx.Graph()
        for index, text in enumerate(self.candidates):
            graph.add_node(index, text=text, **{"class": self._class_numbers[index]})
        for link in self.links:
            graph.add_edge(link.first, link.second, certificate=link.certificate)
        return graph

    @cached_property
    def constants(self) -> tuple[int, ...]:
        """The classes whose value depends on no input."""
        return tuple(c for c in self._members if is_constant(self._anchor(c)))

    @cached_property
    def linear(self) -> tuple[int, ...]:
        """The classes that are a·x + b."""
        return tuple(c for c in self._members if is_linear(self._anchor(c)))

    def largest(self, count: int = 5) -> tuple[int, ...]:
        """The classes with the most members, these first."""
        return tuple(sorted(self._members, key=lambda c: (-len(self._members[c]), c))[:count])

    @cached_property
    def undefined(self) -> tuple[int, ...]:
        """The classes that are undefined on part of [-5, 5], beyond isolated points."""
        return tuple(c for c in self._members if undefined_at(self._anchor(c)) is not None)

    def summary(self) -> dict[str, Any]:
        """Counts: classes where nothing else is said, links for proved, certified and unproved."""
        kinds = Counter(link.certificate.kind for link in self.links)
        return {
            "level": self.level,
            "parameters": self.parameters,
            "candidates": len(self.candidates),
            "classes": self.count,
            "constants": len(self.constants),
            "constant_candidates": sum(len(self._members[c]) for c in self.constants),
            "linear": len(self.linear),
            "linear_candidates": sum(len(self._members[c]) for c in self.linear),
            "undefined": len(self.undefined),
            "undefined_candidates": sum(len(self._members[c]) for c in self.undefined),
            "proved": kinds["proved"],
            "certified": kinds["certified"],
            "unproved": len(self.doubts),
            "seconds": round(self.seconds, 3),
        }

    def save(self, path: str | Path) -> Path:
        """Write everything to a file and return its path.

        `.npz` and `.json` can be loaded again (no pickles); `.graphml` holds the graph for other
        tools: candidates, and links with their certificates as text.

        Raises:
            ValueError: another suffix, or too many candidates for GraphML (20,000).
        """
        path = Path(path)
        data = self._to_dict()
        if path.suffix == ".json":
            path.write_text(json.dumps(data, indent=1), "utf8")
        elif path.suffix == ".npz":
            numbers = {name: data.pop(name) for name in ("classes", "links", "reasons")}
            arrays = {name: np.asarray(rows, dtype=np.int64) for name, rows in numbers.items()}
            text = np.frombuffer(json.dumps(data).encode(), dtype=np.uint8)
            np.savez_compressed(path, allow_pickle=False, data=text, **arrays)
        elif path.suffix == ".graphml":
            self._save_graph(path)
        else:
            raise ValueError(f"classes are saved as .npz, .json or .graphml, not as {path.name!r}")
        return path

    @classmethod
    def load(cls, path: str | Path) -> EquivalenceClasses:
        """What `save` wrote.

        Raises:
            ValueError: not such a file, or of another version.
        """
        path = Path(path)
        try:
            if path.suffix == ".json":
                data = json.loads(path.read_text("utf8"))
            else:
                with archives.opened(path) as arrays:
                    data = json.loads(arrays["data"].tobytes())
                    data |= {key: arrays[key].tolist() for key in ("classes", "links", "reasons")}
            if data["format"] != FORMAT:
                raise ValueError(f"of format {data['format']}, this is format {FORMAT}")
            return cls._from_dict(data)
        except FileNotFoundError:
            raise
        except (ValueError, KeyError, TypeError, IndexError, OSError, BadZipFile) as error:
            raise ValueError(f"{path} holds no equivalence classes: {error}") from None

    def _save_graph(self, path: Path) -> None:
        if len(self.candidates) > _LARGEST_GRAPHML:
            raise ValueError(
                f"GraphML is for at most {_LARGEST_GRAPHML:,} candidates, these are "
                f"{len(self.candidates):,}; save them as .npz"
            )
        graph = self.graph.copy()
        for _, _, data in graph.edges(data=True):
            data["certificate"] = str(data["certificate"])
        nx.write_graphml(graph, path)

    def _to_dict(self) -> dict[str, Any]:
        table: dict[Certificate, int] = {}
        reasons = [table.setdefault(link.certificate, len(table)) for link in self.links]
        return {
            "format": FORMAT,
            "level": self.level,
            "parameters": self.parameters,
            "seconds": self.seconds,
            "candidates": list(self.candidates),
            "certificates": [certificate.to_dict() for certificate in table],
            "doubts": [[doubt.first, doubt.second, doubt.reason] for doubt in self.doubts],
            "classes": list(self._class_numbers),
            "links": [[link.first, link.second] for link in self.links],
            "reasons": reasons,
        }

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> EquivalenceClasses:
        certificates = [Certificate.from_dict(row) for row in data["certificates"]]
        links = [
            Link(first, second, certificates[reason])
            for (first, second), reason in zip(data["links"], data["reasons"], strict=True)
        ]
        doubts = [Doubt(*row) for row in data["doubts"]]
        return cls(
            data["candidates"],
            data["classes"],
            links,
            doubts,
            data["level"],
            data["seconds"],
            data["parameters"],
        )

    def _anchor(self, number: int) -> Expression:
        return self._index.anchor(number)

    def _candidate(self, candidate: int | str | Expression) -> int:
        if isinstance(candidate, int):
            self.class_of(candidate)
            return candidate
        expression = with_holes(candidate, self.parameters)
        if expression not in self._by_expression:
            raise KeyError(f"{expression} is none of the {len(self.candidates)} candidates")
        return self._by_expression[expression]

    @cached_property
    def _by_expression(self) -> dict[Expression, int]:
        found: dict[Expression, int] = {}
        for index, text in enumerate(self.candidates):
            found.setdefault(with_holes(text, self.parameters), index)
        return found

    @cached_property
    def _index(self) -> EquivalenceIndex:
        """An index of the first members, in which class numbers are the same as here."""
        if self._given_index is not None:
            return self._given_index
        index = EquivalenceIndex(self.level)
        for members in self._members.values():
            index.open(with_holes(self.candidates[members[0]], self.parameters))
        return index

    @cached_property
    def _names(self) -> dict[int, NamedActivation]:
        found: dict[int, NamedActivation] = {}
        for activation in named_activations().values():
            number = self._index.lookup(activation.expression)
            if number is not None:
                found.setdefault(number, activation)
        return found


def deduplicate(
    space: Iterable[str | Expression],
    level: str = "function",
    progress: Callable[[int], object] | None = None,
    seed: int = 0,
    parameters: str | None = None,
) -> EquivalenceClasses:
    """Group the candidates of a space into classes of equal functions.

    Args:
        space: a search space, or any iterable of expressions or texts.
        level: "function": the same function of x and its parameters, up to renaming these;
            "reparameterised": besides, up to a bijection of the parameters; "affine": besides, up
            to the sign of x, an output scale and an output offset.
        progress: called with the number of candidates grouped so far.
        seed: another seed, other points for fingerprints and certificates; the classes do not
            depend on it.
        parameters: "independent": each hole `_` is a parameter of its own; "shared": all holes of
            a candidate are one parameter; None: as the space says, else "independent".

    Raises:
        UsageError: no such level, or no such way to read holes.
        ExpressionError: a text is no expression.
    """
    check_level(level)
    if parameters is None:
        parameters = space.parameters if isinstance(space, SearchSpace) else "independent"
    check_parameters(parameters)
    begin = time.perf_counter()
    index = EquivalenceIndex(level, seed)
    texts: list[str] = []
    for candidate in space:
        texts.append(str(candidate))
        index.find_or_add(with_holes(candidate, parameters))
        if progress is not None:
            progress(len(texts))
    seconds = time.perf_counter() - begin
    return EquivalenceClasses(
        texts,
        index.class_of,
        index.links,
        index.open_doubts(),
        level,
        seconds,
        parameters,
        index,
    )
