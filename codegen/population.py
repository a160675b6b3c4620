"""Populations: K different activations, each applied to its own slice of one tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from actsearch.codegen.module import (
    Activation,
    Built,
    Compiled,
    Direct,
    compile_all,
    halves,
    without_autograd,
)
from actsearch.codegen.programs import program
from actsearch.codegen.targets import PRECISIONS, target
from actsearch.codegen.targets.calling import stacked
from actsearch.grammar.errors import UsageError
from actsearch.grammar.expression import Expression

_COMMON = {"chosen": "backend", "precision": "precision", "split_dimension": "split_dimension"}
"""Attributes that the activations of a population share, and what users call them."""


class Population(Compiled):
    """K activations side by side: activation k is applied to x[k], all of them in one call.

    Shapes: x is [K, …] with any strides, and so is the result; its slices lie one after the other.
    Everything else is that of the single activations, seen from a slice: per-channel parameters and
    `split_dimension` count the dimensions of x[k], a gated population takes two tensors or halves
    one. A population is gated as a whole or not at all.

    Values and gradients are those of the single modules; on the CPU bit by bit. The targets `cpu`
    and `cuda` compute all slices in one launch, forward and backward; other targets, activations
    that a target refuses for their length, and on CUDA per-channel parameters along different
    dimensions, take one slice after the other.

    `population[k]` is the module of slice k, `population[1:4]` a smaller population, and
    `Population([population[k] for k in survivors])` any other; they share their parameters. In a
    state_dict the parameter beta of slice 3 is "3.beta". `acts.parameter_groups` knows the
    parameters, and `acts.export(population[k].expression, …)` writes one slice.

    Args:
        activations: the modules, at least one; they agree in backend, precision and
            `split_dimension`. One that is given twice computes two slices with one set of
            parameters.

    Raises:
        ValueError: there is no activation, or they differ in what they should agree in; at a call,
            where x is not [K, …], a per-channel parameter does not fit a slice, or x and gate
            differ.
        TypeError: at a call, for a tensor of integers, booleans or complex numbers.
    """

    def __init__(self, activations: Iterable[Activation]) -> None:
        super().__init__()
        members = list(activations)
        if not members:
            raise UsageError("a population has at least one activation")
        for attribute, name in _COMMON.items():
            values = {getattr(activation, attribute) for activation in members}
            if len(values) > 1:
                listed = " and ".join(sorted(map(repr, values)))
                raise UsageError(f"the activations of a population have one {name}, not {listed}")
        gated = [str(activation.expression) for activation in members if activation._gated]
        if len(gated) not in (0, len(members)):
            listed = ", ".join(gated)
            raise UsageError(
                "all activations of a population take a gate, or none does; "
                f"of these {len(members)} it is {listed}"
            )
        for k, activation in enumerate(members):
            self.add_module(str(k), activation)
        self._build()

    def _build(self) -> None:
        self._gated = self[0]._gated
        self._function = self._together([(target(a.backend), a._function) for a in self])
        self._elsewhere: dict[str, Callable[..., Any]] = {}

    def _together(self, built: Sequence[Built]) -> Callable[..., Any]:
        """The function of all slices, from targets and functions of the single ones."""
        programs = [program(activation.expression) for activation in self]
        row = built[0][0]
        if all(other is row for other, _ in built):
            function = row.population(programs, self[0].precision)
            if function is not None:
                return function
        return stacked(programs, [function for _, function in built])

    def _on(self, device: str) -> Callable[..., Any]:
        """The function for tensors of a device."""
        if target(self[0].backend).computes_on(device):
            return self._function
        if device not in self._elsewhere:
            self._elsewhere[device] = self._together([a._on(device) for a in self])
        return self._elsewhere[device]

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """Activation k of every element of x[k]."""
        function = self._function if x.is_cpu else self._on(x.device.type)
        if self._gated:
            if gate is None:
                x, gate = halves(x, self[0].split_dimension, outer=1)
            return function(x, gate, *self._values())  # type: ignore[no-any-return]
        if gate is not None:
            raise TypeError("the activations of this population take one tensor; a gate was given")
        return function(x, *self._values())  # type: ignore[no-any-return]

    def _values(self) -> list[Tensor]:
        """The parameters of the first activation, of the second, …."""
        return [parameter for activation in self for parameter in activation._values()]

    def direct(self, device: torch.device | str = "cpu") -> Direct | None:
        """The module without autograd's bookkeeping, as `Activation.direct`.

        Args:
            device: where x will be.

        Returns:
            Two functions, to be called under `torch.no_grad()`: x -> the value; and (gradient for
            the value, x) -> gradients for x and for each parameter of the first activation, of the
            second, …. A gated population halves x. None where the backend has only autograd.
        """
        function = self._on(torch.device(device).type)
        split = self[0].split_dimension if self._gated else None
        return without_autograd(function, self._values(), split, outer=1)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Activation]:
        return iter(self._modules.values())  # type: ignore[arg-type]

    @overload
    def __getitem__(self, index: int) -> Activation: ...
    @overload
    def __getitem__(self, index: slice) -> Population: ...
    def __getitem__(self, index: int | slice) -> Activation | Population:
        found = list(self)[index]
        return Population(found) if isinstance(found, list) else found


def compile_population(
    expressions: Iterable[str | Expression],
    backend: str = "auto",
    num_parameters: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    split_dimension: int = -1,
    precision: str = PRECISIONS[0],
) -> Population:
    """A module that applies K different activations, each to its own slice of a [K, …] tensor.

    Child networks that train side by side call it once where they would call K modules.

    Args:
        expressions: K expressions, or their texts; their code is built in one go.
        backend: a target by name; "auto" takes the best one that this machine has.
        num_parameters: size of per-channel parameters: 1, or the number of channels.
        device: where the parameters are.
        dtype: their type; torch's default where it is None.
        split_dimension: of a slice, where gated activations halve a single tensor.
        precision: "accurate" or "fast", as for `compile`.

    Returns:
        A `Population`; its item k is the `Activation` of slice k.

    Raises:
        ExpressionError: a text is no expression.
        UnknownTarget: there is no such backend; the message names the nearest.
        UsageError: there is no expression, or only some of them take a gate.
    """
    return Population(
        compile_all(
            expressions,
            backend,
            precision,
            num_parameters=num_parameters,
            device=device,
            dtype=dtype,
            split_dimension=split_dimension,
        )
    )
