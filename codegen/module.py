"""Activations as torch.nn modules, in the manner of torch.nn.PReLU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from actsearch.codegen.programs import program
from actsearch.codegen.sources import retain
from actsearch.codegen.targets import (
    PRECISIONS,
    BuildError,
    Target,
    best_target,
    build_best,
    check_precision,
    target,
)
from actsearch.codegen.targets.base import unused
from actsearch.codegen.targets.torch import reserved_names
from actsearch.grammar.errors import UsageError
from actsearch.grammar.expression import Expression, Parameter
from actsearch.grammar.language import as_expression

Built = tuple[Target, Callable[..., Any]]
Direct = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Sequence[Tensor]]]
"""x -> the value, and (gradient for the value, x) -> gradients for x and the parameters."""


class Compiled(nn.Module):
    """A module whose functions are built from what it consists of, and never pickled."""

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_function"], state["_elsewhere"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._build()

    def _build(self) -> None:
        """Set `_function` and `_elsewhere`: for the devices of the backend, and for others."""
        raise NotImplementedError


class Activation(Compiled):
    """An activation function with its trainable parameters.

    Shapes: the input has any shape, the output the same. Shared parameters have shape (1,);
    per-channel ones (num_parameters,), along the dimension that they are declared with. A gated
    activation takes two tensors of one shape, `module(x, gate)`, or one that it halves along
    `split_dimension` as torch.nn.GLU does: the first half is x, the second the gate.

    float16 and bfloat16 inputs are computed in float32 and rounded once. The gradient, and the
    gradient of the gradient, are symbolic; only the input and the parameters are saved for them.

    Attributes:
        expression: the activation.
        chosen: the backend that was asked for.
        backend: the name of the target that computes it on the CPU.
        parameters_config: for each parameter attribute its declaration (initial value, scope,
            dimension, learning-rate multiplier). An attribute has the parameter's name, with an
            underscore where the name is taken: `lambda_`, `training_`.
        num_parameters: size of the per-channel parameters.
        split_dimension: where a gated activation halves a single tensor.
        inplace: accepted for compatibility; the input, which the gradient needs, is never changed.
        precision: "accurate" or "fast"; targets that have one precision only ignore it.

    Raises:
        TypeError: at a call, for a tensor of integers, booleans or complex numbers.
        UsageError: an initial value is too large for the type.
        ValueError: at a call, where a per-channel parameter does not fit, or x and gate differ.
    """

    num_parameters: int
    split_dimension: int

    def __init__(
        self,
        expression: str | Expression,
        backend: str = "auto",
        num_parameters: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        inplace: bool = False,
        split_dimension: int = -1,
        precision: str = PRECISIONS[0],
    ) -> None:
        super().__init__()
        self.expression = as_expression(expression)
        self.chosen = backend
        self.precision = check_precision(precision)
        if num_parameters < 1:
            raise ValueError(f"num_parameters is at least 1, not {num_parameters}")
        self.num_parameters = num_parameters
        self.split_dimension = split_dimension
        self.inplace = inplace
        self.parameters_config = _attributes(self.expression)
        for name, declaration in self.parameters_config.items():
            size = num_parameters if declaration.scope == "per channel" else 1
            self.register_parameter(
                name, nn.Parameter(torch.empty(size, device=device, dtype=dtype))
            )
        self.reset_parameters()
        self._build()

    def _build(self) -> None:
        compiled = program(self.expression)
        self._gated = len(compiled.inputs) == 2
        self._names = tuple(self.parameters_config)
        if self.chosen == "auto":
            row, self._function = build_best(compiled, self.precision)
        else:
            row = target(self.chosen)
            self._function = row.build(compiled, self.precision)
        self.backend = row.name
        self._elsewhere: dict[str, Built] = {}
        retain(self._function, self)

    def reset_parameters(self) -> None:
        """Every parameter at its declared initial value."""
        with torch.no_grad():
            for name, declaration in self.parameters_config.items():
                parameter = getattr(self, name)
                if abs(declaration.initial) > torch.finfo(parameter.dtype).max:
                    raise UsageError(
                        f"the initial value of {declaration.name!r}, {declaration.initial}, "
                        f"does not fit into {parameter.dtype}"
                    )
                parameter.fill_(declaration.initial)

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """The activation of every element."""
        function = self._function if x.is_cpu else self._on(x.device.type)[1]
        if not self._gated:
            if gate is not None:
                raise TypeError(f"{self.expression} takes one tensor; a gate was given")
            values = self._values() if self._names else ()
            return function(x, *values)  # type: ignore[no-any-return]
        if gate is None:
            x, gate = halves(x, self.split_dimension)
        return function(x, gate, *self._values())  # type: ignore[no-any-return]

    def _values(self) -> list[Tensor]:
        """The parameters, in the order of the expression's."""
        return [getattr(self, name) for name in self._names]

    def _on(self, device: str) -> Built:
        """Target and function for tensors of a device; chosen anew where the user left it open."""
        row = target(self.backend)
        if row.computes_on(device):
            return row, self._function
        if self.chosen != "auto":
            raise ValueError(f"the backend {row.name!r} does not compute on {device}")
        if device not in self._elsewhere:
            built = build_best(program(self.expression), self.precision, device)
            self._elsewhere[device] = built
            retain(built[1], self)
        return self._elsewhere[device]

    def direct(self, device: torch.device | str = "cpu") -> Direct | None:
        """The module without autograd's bookkeeping, for training loops that keep their own.

        Args:
            device: where x will be.

        Returns:
            Two functions, to be called under `torch.no_grad()`: x -> the value; and (gradient for
            the value, x) -> gradients for x and for each parameter, in order. A gated activation
            halves x. None where the backend has only autograd.
        """
        function = self._on(torch.device(device).type)[1]
        return without_autograd(
            function, self._values(), self.split_dimension if self._gated else None
        )

    def extra_repr(self) -> str:
        parts = [str(self.expression)]
        if any(p.scope == "per channel" for p in self.parameters_config.values()):
            parts.append(f"num_parameters={self.num_parameters}")
        if self._gated:
            parts.append(f"split_dimension={self.split_dimension}")
        return ", ".join([*parts, f"backend={self.backend!r}"])


def compile(
    expression: str | Expression,
    backend: str = "auto",
    num_parameters: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    inplace: bool = False,
    split_dimension: int = -1,
    precision: str = PRECISIONS[0],
) -> Activation:
    """A module that computes an activation, with exact gradients for it and its parameters.

    Args:
        expression: an expression, or its text.
        backend: a target by name; "auto" takes the best one that this machine has.
        num_parameters: size of the per-channel parameters: 1, or the number of channels.
        device: where the parameters are.
        dtype: their type; torch's default where it is None.
        inplace: accepted as torch.nn's activations do; the input is never changed.
        split_dimension: where a gated activation halves its input when it is given one tensor.
        precision: "accurate" (a few units in the last place of float32, measured when it is built)
            or "fast" (float32 arithmetic wherever that is not far off).

    Raises:
        ExpressionError: the text is no expression.
        UnknownTarget: there is no such backend; the message names the nearest.
    """
    return Activation(
        expression, backend, num_parameters, device, dtype, inplace, split_dimension, precision
    )


def compile_all(
    expressions: Iterable[str | Expression],
    backend: str = "auto",
    precision: str = PRECISIONS[0],
    **options: Any,
) -> list[Activation]:
    """Modules for several activations, whose code is built in one go.

    Args:
        expressions: expressions, or their texts.
        backend, precision, **options: as for `compile`, for all of them.

    Raises:
        ExpressionError: a text is no expression.
        UnknownTarget: there is no such backend.
    """
    parsed = [as_expression(expression) for expression in expressions]
    prepare(parsed, backend, precision)
    return [compile(expression, backend, precision=precision, **options) for expression in parsed]


def prepare(
    expressions: Iterable[str | Expression],
    backend: str = "auto",
    precision: str = PRECISIONS[0],
    device: str = "cpu",
) -> None:
    """Build the code of several activations in one go; `compile` then finds it.

    Args:
        expressions: expressions, or their texts.
        backend, precision: as for `compile`.
        device: the type of the device that they will be computed on.

    Raises:
        ExpressionError: a text is no expression.
        UnknownTarget: there is no such backend.
    """
    row = best_target(device) if backend == "auto" else target(backend)
    parsed = [as_expression(expression) for expression in expressions]
    with contextlib.suppress(BuildError):  # `compile` says so, or falls back
        row.prepare(map(program, parsed), check_precision(precision))


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float = 0.0, **options: Any
) -> list[dict[str, Any]]:
    """Optimizer parameter groups: activation parameters at their own rate, without decay.

    Args:
        model: any module; its `Activation` submodules are found, itself included.
        learning_rate: of the weights. An activation parameter gets it times its declared
            multiplier (`beta = 1.0 lr 0.01`).
        weight_decay: of the weights. Activation parameters get none: decay would pull the function
            towards another one.
        **options: put into every group, such as `momentum`.

    Returns:
        Groups for a torch optimizer: the weights first, then one for each multiplier.
    """
    rates: dict[nn.Parameter, float] = {}
    for module in model.modules():
        if isinstance(module, Activation):
            for name, declaration in module.parameters_config.items():
                rates.setdefault(getattr(module, name), declaration.learning_rate)
    weights = [parameter for parameter in model.parameters() if parameter not in rates]
    groups = [{"params": weights, "lr": learning_rate, "weight_decay": weight_decay} | options]
    for rate in sorted(set(rates.values())):
        own = [parameter for parameter, its_rate in rates.items() if its_rate == rate]
        groups.append({"params": own, "lr": learning_rate * rate, "weight_decay": 0.0} | options)
    return groups


def _attributes(expression: Expression) -> dict[str, Parameter]:
    """The parameters by the names that they have as attributes of a module."""
    taken = set(_RESERVED)
    return {unused(parameter.name, taken): parameter for parameter in expression.parameters}


def halves(x: Tensor, dimension: int, outer: int = 0) -> tuple[Tensor, Tensor]:
    """The two halves of a tensor along a dimension, not counting so many outer ones."""
    sizes = x.shape[outer:]
    if not -len(sizes) <= dimension < len(sizes) or sizes[dimension] % 2:
        raise ValueError(f"cannot halve shape {list(sizes)} along dimension {dimension}")
    first, second = x.chunk(2, outer + dimension % len(sizes))
    return first, second


def without_autograd(
    function: Callable[..., Any], parameters: Sequence[Tensor], split: int | None, outer: int = 0
) -> Direct | None:
    """What `direct` returns.

    Args:
        function: of the inputs and the parameters; it has `gradients` unless it needs autograd.
        parameters: to call it with.
        split, outer: how a single tensor is halved; None where there is one input.
    """
    gradients = getattr(function, "gradients", None)
    if gradients is None:
        return None
    if split is None:
        return lambda x: function(x, *parameters), lambda dy, x: gradients(dy, x, *parameters)

    def of_halves(dy: Tensor, x: Tensor) -> Sequence[Tensor]:
        first, second, *others = gradients(dy, *halves(x, split, outer), *parameters)
        return torch.cat((first, second), outer + split % (x.dim() - outer)), *others

    return lambda x: function(*halves(x, split, outer), *parameters), of_halves


_RESERVED = reserved_names() | set(dir(Activation))
_RESERVED |= {"chosen", "precision", "_function", "_elsewhere", "_gated", "_names"}
