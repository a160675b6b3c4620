"""The targets: every kind of code that an activation can become.

A target joins by adding a row to `TARGETS`. Rows name their module, which is imported on first use.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsearch.grammar.errors import ActSearchError, UsageError, did_you_mean

if TYPE_CHECKING:
    from actsearch.codegen.programs import Program


class UnknownTarget(UsageError):
    """A target that is not in the table; the message names the nearest one."""


PRECISIONS = ("accurate", "fast")
"""accurate: a few units in the last place; fast: float32 arithmetic wherever it is not far off."""


class BuildError(ActSearchError):
    """A target cannot be built on this machine, as for want of a compiler; the message says why."""


@dataclass(frozen=True)
class Target:
    """One kind of code.

    Its module has these functions:

        source(program) -> str             the code, as a self-contained file
        build(program, precision) -> callable
                                           f(*inputs, *parameters), differentiable; modules run it
        write(program, path, num_parameters, **options) -> None
                                           the exported file, that runs without ActSearch
        available() -> bool                whether this machine can run it
        fits(program) -> bool              whether it takes programs of that size; where it has one
        prepare(programs, precision)       build several at once; where it has one
        population(programs, precision) -> callable | None
                                           f(*stacked inputs, *all parameters) in one launch; where
                                           it has one that takes these programs

    Attributes:
        name: what users call it.
        module: where the functions are.
        suffix: of an exported file.
        description: one line for people.
        capabilities: what its functions support beyond values and gradients: "double backward",
            "vmap", "torch.compile", "functorch", "export", "meta", "operator" (a registered
            torch.library operator). The contract suite tests those that a row declares.
        devices: types of device that it computes on; empty where it computes on all.
        exports_only: whether it makes files but no modules.
        options: of exported files, which only this target has.
    """

    name: str
    module: str
    suffix: str
    description: str
    capabilities: frozenset[str]
    devices: frozenset[str] = frozenset()
    exports_only: bool = False
    options: frozenset[str] = frozenset()

    def computes_on(self, device: str) -> bool:
        """Whether it takes tensors of a type of device, such as "cpu" or "cuda"."""
        return not self.devices or device in self.devices

    def _function(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module(self.module), name)
        return function

    def source(self, program: Program) -> str:
        """The target's code, as the text of a self-contained file."""
        text: str = self._function("source")(program)
        return text

    def build(self, program: Program, precision: str = PRECISIONS[0]) -> Callable[..., Any]:
        """A differentiable function of the inputs and the parameters."""
        function: Callable[..., Any] = self._function("build")(program, precision)
        return function

    def write(self, program: Program, path: Path, num_parameters: int = 1, **options: Any) -> None:
        """Write the exported file, with per-channel parameters of that size if it holds any.

        Raises:
            UsageError: the target has no such option.
        """
        for name in sorted(set(options) - self.options):
            able = ", ".join(row.name for row in TARGETS.values() if name in row.options)
            raise UsageError(f"{name} is an option of the target {able}, not of {self.name}")
        self._function("write")(program, path, num_parameters, **options)

    def prepare(self, programs: Iterable[Program], precision: str = PRECISIONS[0]) -> None:
        """Build several at once, where that is cheaper than one by one."""
        prepare = getattr(import_module(self.module), "prepare", None)
        if prepare is not None:
            prepare((program for program in programs if self.fits(program)), precision)

    def population(
        self, programs: Sequence[Program], precision: str = PRECISIONS[0]
    ) -> Callable[..., Any] | None:
        """A differentiable function of inputs [K, …] and of the parameters of all K programs.

        None where the target computes one activation at a time.
        """
        population = getattr(import_module(self.module), "population", None)
        return None if population is None else population(programs, precision)

    def fits(self, program: Program) -> bool:
        """Whether the target takes programs of that size."""
        limit = getattr(import_module(self.module), "fits", None)
        return limit is None or bool(limit(program))

    def available(self) -> bool:
        """Whether this machine can run the target."""
        return bool(self._function("available")())


TARGETS: Mapping[str, Target] = {
    row.name: row
    for row in (
        Target(
            "torch",
            "actsearch.codegen.targets.torch",
            ".py",
            "plain PyTorch source; composes with everything that PyTorch does",
            frozenset({"double backward", "vmap", "functorch", "torch.compile", "export", "meta"}),
        ),
        Target(
            "torchscript",
            "actsearch.codegen.targets.torchscript",
            ".pt",
            "a scripted module of ATen operators, for processes without Python",
            frozenset({"double backward", "meta"}),
        ),
        Target(
            "cpu",
            "actsearch.codegen.targets.cpu",
            ".c",
            "vectorised C, called through one C++ operator that is built once for a machine",
            frozenset(
                {"double backward", "functorch", "torch.compile", "export", "meta", "operator"}
            ),
            frozenset({"cpu", "meta"}),
        ),
        Target(
            "cuda",
            "actsearch.codegen.targets.cuda",
            ".cu",
            "CUDA C++ for NVIDIA GPUs, compiled by NVRTC; 128-bit accesses, deterministic sums",
            frozenset(
                {"double backward", "functorch", "torch.compile", "export", "meta", "operator"}
            ),
            frozenset({"cuda", "meta"}),
        ),
        Target(
            "triton",
            "actsearch.codegen.targets.triton",
            ".py",
            "Triton kernels for GPUs, in a Python file; Inductor can trace them",
            frozenset(
                {"double backward", "functorch", "torch.compile", "export", "meta", "operator"}
            ),
            frozenset({"cuda", "meta"}),
        ),
        Target(
            "onnx",
            "actsearch.codegen.targets.onnx",
            ".onnx",
            "a graph of standard ONNX operators, for other runtimes; an exported file only",
            frozenset(),
            exports_only=True,
            options=frozenset({"rank"}),
        ),
    )
}

PREFERENCE = ("cpu", "cuda", "triton", "torch")
"""What `backend="auto"` tries, best first; the last one always works."""


def check_precision(name: str) -> str:
    """The name of a precision, if it is one.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PRECISIONS:
        listed = " or ".join(PRECISIONS)
        raise UsageError(f"precision is {listed}, not {name!r}")
    return name


def target(name: str) -> Target:
    """The row called `name`.

    Raises:
        UnknownTarget: there is none; the message proposes the nearest name.
    """
    try:
        return TARGETS[name]
    except KeyError:
        listed = ", ".join(TARGETS)
        hint = did_you_mean(str(name), TARGETS)
        raise UnknownTarget(f"there is no target {name!r}; targets are {listed}{hint}") from None


def best_target(device: str = "cpu") -> Target:
    """The first target in order of preference that this machine can run on a type of device."""
    rows = (TARGETS[name] for name in PREFERENCE)
    return next(row for row in rows if row.computes_on(device) and row.available())


def build_best(
    program: Program, precision: str, device: str = "cpu"
) -> tuple[Target, Callable[..., Any]]:
    """The first target in order of preference that a program can be built for, and the function.

    Warns, once for each reason, where a target that the device could use cannot be built.
    """
    failures: list[BuildError] = []
    for name in PREFERENCE:
        row = TARGETS[name]
        if row.computes_on(device) and row.fits(program):
            try:
                function = row.build(program, precision)
            except BuildError as error:
                failures.append(error)
                continue
            by = "plain PyTorch" if name == PREFERENCE[-1] else f"the target {name}"
            for failure in failures:
                _warn(f"activations are computed by {by}, which is slower: {failure}")
            return row, function
    raise AssertionError("the last target always works")


@cache
def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
