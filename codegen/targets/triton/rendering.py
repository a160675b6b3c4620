"""Programs as Triton kernels, in a file that also holds the target `torch`'s code.

The kernels compute values and gradients; PyTorch's operators compute the second derivative, and
everything where no GPU is, or where something looks into the function (torch.func, torch.export).
Half types compute in float32. What a parameter gets is summed in two stages, without atomics: each
program adds up its tiles, then PyTorch adds up the programs in float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, ClassVar

from actsearch.codegen.programs import DY, Program, Routine, Step
from actsearch.codegen.sources import load
from actsearch.codegen.targets.base import ATOM, Code, Function, Renderer, unused, variable_names
from actsearch.codegen.targets.bessel import far, near
from actsearch.codegen.targets.torch import Source
from actsearch.codegen.targets.torch import reserved_names as torch_names
from actsearch.grammar.expression import Parameter

_LIBRARY = "exp expm1 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc"
_OURS = "sqrt cbrt log relu sign sinc j1 sigmoid softplus i0e i1e".split()


def _below(package: str, name: str, line: str) -> str:
    """What stands below a line of a file of ours, which a generated file copies."""
    text = resources.files(package).joinpath(name).read_text(encoding="utf-8")
    return text.partition(f"# ---- {line}\n")[2].lstrip()


_ROWS = _below("actsearch.codegen.targets", "rows.py", "rows")
_TILES = _below("actsearch.codegen.targets.triton", "support.py", "elementary functions")
_SUPPORT = f"\n{_ROWS}\n\n{_TILES}"


def _call(name: str) -> Callable[..., str]:
    def render(renderer: TritonRenderer, *operands: Code) -> str:
        return f"{name}({', '.join(renderer.typed(operand) for operand in operands)})"

    return render


class TritonRenderer(Renderer):
    """Routines as Triton code."""

    name = "triton"
    functions: ClassVar[Mapping[str, Function]] = {
        **{name: _call(f"libdevice.{name}") for name in _LIBRARY.split()},
        **{name: _call(f"_{name}_tile") for name in (*_OURS, "max", "min", "pow")},
        "hypot": _call("libdevice.hypot"),
        "abs": "tl.abs({a})",
        "where": _call("tl.where"),
    }

    def literal(self, value: float) -> str:
        return repr(value) if abs(value) < float("inf") else f'float("{value}")'

    def typed(self, code: Code) -> str:
        """A number in the type that is computed with; else Triton rounds it to float32."""
        return code.text if code.number is None else f"tl.full((), {code.text}, REAL)"

    def step(self, step: Step, operands: Sequence[Code]) -> Code:
        if step.operator == "div":
            depth = 1 + max(operand.depth for operand in operands)
            elementwise = any(operand.elementwise for operand in operands)
            text = f"_div_tile({', '.join(self.typed(operand) for operand in operands)})"
            return Code(text, ATOM, depth, elementwise=elementwise)
        return super().step(step, operands)


def _bessel(order: int) -> str:
    half = " * (0.5 * size)" if order else ""
    sign = " * _sign_tile(x)" if order else ""
    series = "\n".join(f"    {line}" for line in near(order))
    fitted = "\n".join(f"    {line}" for line in far(order))
    return f"""

@triton.jit
def _i{order}e_tile(a):
    x = a.to(tl.float64)
    size = tl.abs(x)
    s = size * size * 0.25
{series}
    close = libdevice.exp(-size){half} * q
    t = 16.0 / size - 1.0
{fitted}
    distant = q / tl.sqrt(size)
    return (tl.where(size < 8.0, close, distant){sign}).to(a.dtype)
"""


_ENDINGS = ("_pointer", "_pitch", "_channels", "_sum", "_")
"""What a variable's name gets for something else in a kernel."""

BESSEL = {"_i0e_tile": _bessel(0), "_i1e_tile": _bessel(1)}
"""Elementary functions that only those files hold which call them."""


@cache
def reserved_names() -> frozenset[str]:
    """Names that a variable cannot have in a generated file."""
    ours = "triton tl libdevice REAL ROWS COLUMNS BY_ROW WIDE row column rows columns mask steps"
    ours += " step inner channels column_block column_blocks row_block contextlib one y"
    names = {line[4:].partition("(")[0] for line in _SUPPORT.splitlines() if line[:4] == "def "}
    return torch_names() | {*ours.split(), *names, *BESSEL}


def source(program: Program) -> str:
    """The whole file."""
    return TritonSource(program).text()


def function(program: Program) -> Callable[..., Any]:
    """f(*inputs, *parameters), from the same source."""
    module: Any = load(source(program))
    activation, interpreted = module.activation, module._INTERPRETED

    def on_device(x: Any, *others: Any) -> Any:
        if x.is_cpu and not interpreted:
            shape = list(x.shape)
            raise ValueError(f"the target triton computes on cuda, not on a {shape} of {x.device}")
        return activation(x, *others)

    def gradients(*tensors: Any) -> tuple[Any, ...]:
        slopes: Any = module._slopes(*tensors)
        return slopes if isinstance(slopes, tuple) else (slopes,)

    on_device.gradients = gradients  # type: ignore[attr-defined]
    return on_device


class TritonSource(Source):
    """The parts of the file."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        plain = [*(node.name for node in program.variables), "dy"]
        derived = {f"{name}{ending}" for name in plain for ending in _ENDINGS}
        self.names = variable_names(program, reserved_names() | derived)
        self.inputs = [self.names[node] for node in program.inputs]
        self.parameters = [self.names[node] for node in program.parameters]
        self.variables = [*self.inputs, *self.parameters]
        self._taken = set(self.names.values()) | reserved_names()
        imports = "import triton\nimport triton.language as tl\n"
        self.head = self.head.replace(
            "\nimport torch\nfrom torch import Tensor, nn\nfrom torch.autograd import Function\n",
            f"\nimport contextlib\n\nimport torch\n{imports}"
            "from torch import Tensor, nn\nfrom torch.autograd import Function\n"
            "from torch.library import triton_op, wrap_triton\n"
            "from triton.language.extra import libdevice\n",
        )

    def docstring(self) -> str:
        return super().docstring().replace("only PyTorch.", "PyTorch and Triton.", 1)

    def functions(self) -> str:
        """What the target `torch` has, the kernels, and a function that chooses."""
        composed = super().functions()
        head, marker, tail = composed.partition("def activation(")
        assert marker
        kernels = self.kernels()
        bessel = "".join(text for name, text in BESSEL.items() if f"{name}(" in kernels)
        body = tail.partition("    if not torch.is_grad_enabled():\n")
        arguments = ", ".join(self.variables)
        chosen = (
            f"    if _direct(x) and _one_dimension(x, {self.declared()}):\n"
            f"        return _forward_op({arguments})\n"
        )
        function = marker + body[0] + chosen + body[1] + body[2]
        return f"{head.rstrip()}\n\n{_SUPPORT}{bessel}{kernels}\n\n{function}"

    def declared(self) -> str:
        """The parameters with their dimensions, as code."""
        pairs = zip(self.parameters, self.program.parameters, strict=True)
        return f"[{', '.join(f'({name}, {p.dimension})' for name, p in pairs)}]"

    def kernels(self) -> str:
        """The routines, the kernels, their launches, and the operators."""
        parts = [self.scalar(r) for r in (self.program.forward, self.program.backward)]
        parts += [self.forward(), self.backward(), self.operators()]
        return "".join(parts)

    def scalar(self, routine: Routine) -> str:
        """A routine as a function of tiles."""
        lines, results = TritonRenderer().body(routine, self.names)
        arguments = ", ".join(self.names[a] for a in routine.arguments)
        values = ", ".join(TritonRenderer().typed(result) for result in results)
        body = "\n".join(f"    {line}" for line in [*lines, f"return {values}"])
        name = f"_{routine.name}_tile"
        return f"\n\n@triton.jit\ndef {name}({arguments}, REAL: tl.constexpr):\n{body}\n"

    def _kernel(self, name: str, reads: list[str], writes: list[str], body: list[str]) -> str:
        """A kernel: what it takes, where its tiles are, and what it does with one."""
        pointers = [f"{n}_pointer" for n in (*reads, *self.parameters, *writes)]
        numbers = [f"{n}_pitch" for n in reads]
        numbers += "rows columns channels inner column_blocks steps".split()
        flags = [f"{n}_channels: tl.constexpr" for n in self.parameters]
        flags += [f"{n}: tl.constexpr" for n in ("BY_ROW", "WIDE", "ROWS", "COLUMNS")]
        signature = "".join(f"    {line},\n" for line in _wrapped([*pointers, *numbers, *flags]))
        lines = [
            "REAL: tl.constexpr = tl.float64 if WIDE else tl.float32",
            "row_block = tl.program_id(0).to(tl.int64) // column_blocks",
            "column_block = tl.program_id(0).to(tl.int64) % column_blocks",
            "column = column_block * COLUMNS + tl.arange(0, COLUMNS)[None, :]",
            *body,
        ]
        text = "".join(f"    {line}\n" if line else "\n" for line in lines)
        return f"\n\n@triton.jit\ndef {name}(\n{signature}):\n{text}"

    def _tile(self, reads: list[str]) -> list[str]:
        """The lines that load a tile."""
        lines = [
            "row = (row_block * steps + step) * ROWS + tl.arange(0, ROWS)[:, None]",
            "mask = (row < rows) & (column < columns)",
        ]
        for n in reads:
            place = f"{n}_pointer + row * {n}_pitch + column"
            lines.append(f"{n} = tl.load({place}, mask=mask, other=0.0).to(REAL)")
        for n in self.parameters:
            lines += [
                f"if {n}_channels and BY_ROW:",
                f"    {n} = tl.load({n}_pointer + row % channels, mask=row < rows, other=0.0)",
                f"elif {n}_channels:",
                f"    {n} = tl.load({n}_pointer + column // inner, column < columns, other=0.0)",
                "else:",
                f"    {n} = tl.load({n}_pointer)",
                f"{n} = tl.broadcast_to({n}.to(REAL), (ROWS, COLUMNS))",
            ]
        return lines

    def forward(self) -> str:
        """y of each tile."""
        lines = ["step = 0", *self._tile(self.inputs)]
        lines.append(f"value = _forward_tile({', '.join(self.variables)}, REAL)")
        lines.append("tl.store(y_pointer + row * columns + column, value, mask=mask)")
        kernel = self._kernel("_forward_kernel", self.inputs, ["y"], lines)
        arguments = ", ".join(f"{name}: Tensor" for name in self.variables)
        return f'''{kernel}

def _run_forward({arguments}) -> Tensor:
    """y, in the memory order of x."""
    y = torch.empty_like(x)
{self._launch("_forward_kernel", self.inputs, ["y"], "1", ["return y"])}    return y
'''

    def backward(self) -> str:
        """The gradients for the inputs of each tile, and partial sums of those for parameters."""
        dy = self.names[DY]
        reads = [dy, *self.inputs]
        taken = set(self.names.values()) | reserved_names()
        self.slopes = [unused(f"d{name}", taken) for name in self.variables]
        own = dict(zip(self.variables, self.slopes, strict=True))
        sums = [f"{own[n]}_sum" for n in self.parameters]
        lines = [f"{s} = tl.zeros((ROWS, COLUMNS), REAL)" for s in sums]
        lines.append("for step in range(steps):")
        inner = self._tile(reads)
        order = [self.names[node] for node in self.program.backward.arguments]
        inner.append(f"{', '.join(self.slopes)} = _backward_tile({', '.join(order)}, REAL)")
        inner += [
            f"tl.store({own[n]}_pointer + row * columns + column, {own[n]}, mask=mask)"
            for n in self.inputs
        ]
        inner += [f"{own[n]}_sum += tl.where(mask, {own[n]}, 0.0)" for n in self.parameters]
        lines += [f"    {line}" for line in inner]
        for n in self.parameters:
            place, total = f"{own[n]}_pointer", f"{own[n]}_sum"
            lines += [
                f"if {n}_channels and BY_ROW:",
                "    one = row_block * ROWS + tl.arange(0, ROWS)",
                f"    {place} += one * column_blocks + column_block",
                f"    tl.store({place}, tl.sum({total}, 1), mask=one < rows)",
                f"elif {n}_channels:",
                "    one = column_block * COLUMNS + tl.arange(0, COLUMNS)",
                f"    {place} += row_block * columns + one",
                f"    tl.store({place}, tl.sum({total}, 0), mask=one < columns)",
                "else:",
                f"    tl.store({place} + tl.program_id(0), tl.sum(tl.sum({total}, 1), 0))",
            ]
        kernel = self._kernel("_backward_kernel", reads, self.slopes, lines)
        arguments = ", ".join(f"{name}: Tensor" for name in [dy, *self.variables])
        kind = self._kind()
        made = [f"{own[n]} = torch.empty_like(x)" for n in self.inputs]
        empty = [f"{own[n]} = torch.zeros_like({n})" for n in self.parameters]
        returned = f"return {', '.join(self.slopes)}"
        steps = "_steps(rows, tile_rows, column_blocks)"
        if self.parameters:
            steps = f"1 if channels > 1 and not inner else {steps}"
        launch = self._launch("_backward_kernel", reads, self.slopes, steps, [*empty, returned])
        totals = "".join(f"    {own[n]} = _total({own[n]}, {n}, shape)\n" for n in self.parameters)
        body = "".join(f"    {line}\n" for line in made)
        return f'''{kernel}

def _run_backward({arguments}) -> {kind}:
    """The gradients for the inputs and the parameters, from that for y."""
{body}{launch}{totals}    {returned}
'''

    def _kind(self) -> str:
        slopes = ["Tensor"] * len(self.variables)
        return slopes[0] if len(slopes) == 1 else f"tuple[{', '.join(slopes)}]"

    def _launch(
        self, kernel: str, reads: list[str], writes: list[str], steps: str, empty: list[str]
    ) -> str:
        """The lines that lay tensors out and launch a kernel over them."""
        y = writes[0]
        lines = [f"check_dimension({n}, x, {p.dimension})" for n, p in self._pairs()]
        lines.append(f"if {y}.numel() == 0:")
        lines += [f"    {line}" for line in empty]
        names = ", ".join(f"{n}_" for n in reads)
        pitches = ", ".join(f"{n}_pitch" for n in reads)
        lines += [
            f"laid, pitches, *sizes = _layout({y}, [{', '.join(reads)}], {self.declared()})",
            f"({names},), ({pitches},) = laid, pitches",
            "rows, columns, channels, inner, tile_rows, tile_columns = sizes",
            "column_blocks = _blocks(columns, tile_columns)",
            f"steps = {steps}",
            "row_blocks = _blocks(rows, tile_rows * steps)",
            "programs = row_blocks * column_blocks",
        ]
        sums = writes[len(self.inputs) :] if kernel == "_backward_kernel" else []
        if sums:
            lines += [
                "shape = [row_blocks, channels, inner]",
                "if not inner:",
                "    shape = [rows // channels, channels, column_blocks]",
            ]
        for n, total in zip(self.parameters, sums, strict=bool(sums)):
            lines += [
                f"count = programs if {n}.numel() == 1 else shape[0] * shape[1] * shape[2]",
                f"{total} = _partials(x, count)",
            ]
        arguments = [f"{n}_" for n in reads]
        arguments += [f"{n}.contiguous()" for n in self.parameters]
        arguments += writes
        arguments += [f"{n}_pitch" for n in reads]
        arguments += "rows columns channels inner column_blocks steps".split()
        arguments += [f"{n}.numel() > 1" for n in self.parameters]
        arguments += ["inner == 0", "x.dtype == torch.float64", "tile_rows", "tile_columns"]
        lines += [f"with _device({y}):", f"    _launched({kernel})[(programs,)]("]
        lines += [f"        {line}," for line in _wrapped(arguments)]
        lines += ["    )"]
        return "".join(f"    {line}\n" for line in lines)

    def _pairs(self) -> list[tuple[str, Parameter]]:
        return list(zip(self.parameters, self.program.parameters, strict=True))

    def operators(self) -> str:
        """The operators, by a name that is a digest of the formula, and their derivatives."""
        text = f"{self.program.expression}{self.declared()}{self.program.forward.steps}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        dy = self.names[DY]
        arguments = ", ".join(f"{name}: Tensor" for name in self.variables)
        plain = ", ".join(self.variables)
        kind = self._kind()
        return f'''

@triton_op("generated_activations::forward_{digest}", mutates_args=())
def _forward_op({arguments}) -> Tensor:
    return _run_forward({plain})


@triton_op("generated_activations::backward_{digest}", mutates_args=())
def _backward_op({dy}: Tensor, {arguments}) -> {kind}:
    return _run_backward({dy}, {plain})


def _slopes({dy}: Tensor, {arguments}):
    """What the backward pass computes, without autograd's bookkeeping."""
    if _direct(x) and _one_dimension(x, {self.declared()}):
        return _backward_op({dy}, {plain})
    return _Gradient.forward({dy}, {plain})


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


_forward_op.register_autograd(
    lambda ctx, {dy}: _backward_op({dy}, *ctx.saved_tensors), setup_context=_save
)
_backward_op.register_autograd(_Gradient.backward, setup_context=_save)
'''


def _wrapped(items: Sequence[str], width: int = 80) -> list[str]:
    """A list over several lines."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + len(item) + 2 <= width:
            lines[-1] += f", {item}"
        else:
            lines.append(item)
    return lines
