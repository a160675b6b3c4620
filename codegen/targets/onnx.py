"""The target `onnx`: a graph of standard ONNX operators, for runtimes other than PyTorch.

ONNX has no erfc, expm1, log1p or Bessel functions, and torch.onnx's own decompositions of them
cancel (log(1 + a) for log1p). So the formula is first written in operators that ONNX has, in forms
that stay accurate; torch.onnx traces that. The graph computes in float32, takes tensors of any
shape, and holds the parameters as initializers. onnx.checker, and some runtimes, want the number of
dimensions declared: `write` takes it.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from actsearch.codegen.programs import Program
from actsearch.codegen.sources import load
from actsearch.codegen.targets import PRECISIONS, BuildError
from actsearch.codegen.targets.base import Code, Function, unused, variable_names
from actsearch.codegen.targets.bessel import far, near
from actsearch.codegen.targets.torch import HELPERS, Source, TorchRenderer, reserved_names
from actsearch.grammar.expression import Parameter

OPSET = 20
"""The version of ONNX's operators: 20 is of October 2023 (ONNX 1.15, onnxruntime 1.17)."""

PACKAGES = ("onnx", "onnxscript")
_INPUT = ".input"  # keeps inputs apart from the names that torch.onnx makes
_TERMS, _SMALLEST = 15, 1e-8  # what float32 needs of the Bessel functions' series


def _extremum(name: str) -> Callable[..., str]:
    # torch.clamp with one bound becomes Clip, which takes the largest number for infinity
    def render(renderer: TorchRenderer, a: Code, b: Code) -> str:
        return f"torch.{name}imum({renderer.tensor(a)}, {renderer.tensor(b)})"

    return render


def _hypot(renderer: TorchRenderer, a: Code, b: Code) -> str:
    return f"_hypot({renderer.tensor(a)}, {renderer.tensor(b)})"


class OnnxRenderer(TorchRenderer):
    """Routines in those operators of PyTorch that ONNX has, too."""

    name = "onnx"
    functions: ClassVar[Mapping[str, Function]] = {
        **TorchRenderer.functions,
        "max": _extremum("max"),
        "min": _extremum("min"),
        "expm1": "_expm1({a})",
        "log1p": "_log1p({a})",
        "hypot": _hypot,
        "sigmoid": "_sigmoid({a})",
        "softplus": "_softplus({a})",
        "erfc": "_erfc({a})",
        "i0e": "_i0e({a})",
        "i1e": "_i1e({a})",
    }


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _bessel(order: int) -> str:
    half = " * (0.5 * size)" if order else ""
    value = "torch.where(size < 8.0, close, distant)" + (" * torch.sign(a)" if order else "")
    return f'''
def _i{order}e(a: Tensor) -> Tensor:
    """exp(-|a|) I{order}(a): its power series near 0, a fitted polynomial elsewhere."""
    size = torch.abs(a)
    s = size * size * 0.25
{_indented(near(order, _TERMS))}
    close = torch.exp(-size){half} * q
    t = 16.0 / size - 1.0
{_indented(far(order, _SMALLEST))}
    distant = q / torch.sqrt(size)
    return {value}
'''


ONNX_HELPERS: Mapping[str, str] = {
    "_i0e": _bessel(0),
    "_i1e": _bessel(1),
    "_erfc": '''
def _erfc(a: Tensor) -> Tensor:
    """1 - erf(a); beyond 0.5, where that cancels, exp(-a²)/(1 + 2a) times a polynomial."""
    size = torch.abs(a)
    u = (size - 3.0) / (size + 3.0)
    q = -0.00026988962781615555
    q = q * u - 0.0007789218798279762
    q = q * u + 0.0020053985062986612
    q = q * u + 0.0025706409942358732
    q = q * u - 0.02379876933991909
    q = q * u + 0.06829438358545303
    q = q * u - 0.11927083879709244
    q = q * u + 0.12964659929275513
    q = q * u - 0.047562405467033386
    q = q * u - 0.13562114536762238
    q = q * u + 1.2530080592161276
    beyond = torch.exp(-(size * size)) * (q / (2.0 * size + 1.0))
    beyond = torch.where(size < 11.0, beyond, 0.0)
    return torch.where(a > 0.5, beyond, 1.0 - torch.erf(a))
''',
    "_expm1": '''
def _expm1(a: Tensor) -> Tensor:
    """exp(a) - 1 = tanh(a/2)*(exp(a) + 1)."""
    return torch.tanh(0.5 * a) * (torch.exp(a) + 1.0)
''',
    "_log1p": '''
def _log1p(a: Tensor) -> Tensor:
    """log(1 + a): the logarithm of the rounded sum, corrected by what rounding took."""
    u = 1.0 + a
    log = torch.log(u)
    near = torch.where(u == 1.0, a, log * (a / (u - 1.0)))
    return torch.where(torch.abs(a) < 1e9, near, log)
''',
    "_hypot": '''
def _hypot(a: Tensor, b: Tensor) -> Tensor:
    """sqrt(a² + b²) without overflow."""
    a, b = torch.abs(a), torch.abs(b)
    most, least = torch.maximum(a, b), torch.minimum(a, b)
    ratio = least / most
    value = most * torch.sqrt(1.0 + ratio * ratio)
    return torch.where((most > 0.0) & (least < float("inf")), value, most)
''',
    "_sigmoid": '''
def _sigmoid(a: Tensor) -> Tensor:
    """1/(1 + exp(-a)); ONNX's Sigmoid loses its left tail in onnxruntime."""
    t = torch.exp(-torch.abs(a))
    return torch.where(a > 0.0, 1.0, t) / (1.0 + t)
''',
    "_softplus": '''
def _softplus(a: Tensor) -> Tensor:
    """log(1 + exp(a)), without the overflow of exp."""
    return torch.relu(a) + _log1p(torch.exp(-torch.abs(a)))
''',
}
"""Operators that ONNX lacks, or its runtimes compute inaccurately; a file holds those it calls."""


def source(program: Program) -> str:
    """What torch.onnx traces: the stable formula in operators that ONNX has, as a PyTorch file."""
    return OnnxSource(program).text()


def build(program: Program, precision: str = PRECISIONS[0]) -> Callable[..., Any]:
    """An ONNX graph has no gradients, so it makes no module.

    Raises:
        BuildError: always.
    """
    raise BuildError(
        'the target onnx is for exported files; compile with backend="auto", '
        'and export with target="onnx"'
    )


def write(program: Program, path: Path, num_parameters: int = 1, rank: int | None = None) -> None:
    """The graph as an .onnx file, for inputs of that rank or of any.

    Raises:
        BuildError: onnx or onnxscript is not installed.
    """
    graph = model([program], num_parameters, rank)
    path.write_bytes(graph.SerializeToString())


def available() -> bool:
    """Whether the packages are installed."""
    return not _missing()


def _missing() -> list[str]:
    return [name for name in PACKAGES if find_spec(name) is None]


class OnnxSource(Source):
    """The file that is traced: one function, without gradients."""

    head = "\nimport torch\nfrom torch import Tensor\n"

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.names = variable_names(program, reserved_names() | set(ONNX_HELPERS))
        self.variables = [self.names[variable] for variable in program.variables]

    def text(self) -> str:
        lines, (result,) = OnnxRenderer().body(self.program.forward, self.names)
        arguments = ", ".join(f"{name}: Tensor" for name in self.variables)
        body = [*lines, f"return {self.result('y', result)}"]
        function = f"\n\ndef activation({arguments}) -> Tensor:\n"
        function += '    """y; parameters have shapes that broadcast against x."""\n'
        function += _indented(body) + "\n"
        code, kept = function, []
        for name, helper in reversed({**HELPERS, **ONNX_HELPERS}.items()):
            if f"{name}(" in code:
                kept.append("\n" + helper)
                code += helper
        title = self.docstring().replace("a PyTorch module", "operators that ONNX has")
        return "".join([title, self.head, *reversed(kept), function])


def model(programs: Sequence[Program], num_parameters: int = 1, rank: int | None = None) -> Any:
    """One graph with an output for each of the activations.

    Args:
        programs: activations; a parameter's name gets underscores where an earlier one has it.
        num_parameters: size of the per-channel parameters.
        rank: number of dimensions of the inputs; any where it is None.

    Returns:
        An onnx.ModelProto with the inputs `x` and, for gated activations, `gate`, and the output
        `y`, or `y0`, `y1`, … of several.

    Raises:
        BuildError: onnx or onnxscript is not installed.
    """
    if missing := _missing():
        listed = " and ".join(missing)
        raise BuildError(f"the target onnx needs {listed}: pip install 'actsearch[onnx]'")
    import torch
    from onnxscript import optimizer

    outputs = ["y"] if len(programs) == 1 else [f"y{k}" for k in range(len(programs))]
    inputs = {node.name: node for program in programs for node in program.inputs}
    parameters: dict[str, Parameter] = {}
    taken = {"x", "gate", *outputs}
    functions: list[tuple[Callable[..., torch.Tensor], list[str]]] = []
    for program in programs:
        named = {unused(node.name, taken): node for node in program.parameters}
        parameters |= named
        arguments = [*(node.name for node in program.inputs), *named]
        functions.append((load(source(program)).activation, arguments))
    variables = (*inputs, *parameters)

    class Activations(torch.nn.Module):
        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            given = dict(zip(variables, tensors, strict=True))
            return tuple(function(*(given[n] for n in names)) for function, names in functions)

    length = torch.export.Dim("length")
    examples = [torch.randn(8) for _ in inputs] + [torch.ones(()) for _ in parameters]
    shapes = tuple([{0: length} for _ in inputs] + [{} for _ in parameters])
    with _quiet():
        traced = torch.onnx.export(
            Activations().eval(),
            tuple(examples),
            dynamo=True,
            verbose=False,
            optimize=False,
            opset_version=OPSET,
            input_names=[f"{name}{_INPUT}" for name in variables],
            output_names=outputs,
            dynamic_shapes=(shapes,),
        )
    assert traced is not None
    optimizer.fold_constants(traced.model)
    optimizer.remove_unused_nodes(traced.model)
    graph = traced.model_proto
    _finish(graph, programs, parameters, num_parameters, rank)
    return graph


def _finish(
    model: Any,
    programs: Sequence[Program],
    parameters: Mapping[str, Parameter],
    size: int,
    rank: int | None,
) -> None:
    """Give the graph its title and its parameters, and inputs of any shape, or of that rank."""
    graph = model.graph
    _rename(graph, parameters)
    del graph.value_info[:]
    kept = [value for value in graph.input if value.name not in parameters]
    del graph.input[:]
    graph.input.extend(kept)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.ClearField("shape")
        for k in range(rank or 0):
            value.type.tensor_type.shape.dim.add().dim_param = f"d{k}"
    prefix = [node for name, p in parameters.items() for node in _attach(graph, name, p, size)]
    nodes = [*prefix, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.name = "activation"
    model.producer_name, model.producer_version = "actsearch", ""
    model.doc_string = "; ".join(f"y = {program.expression}" for program in programs)


def _rename(graph: Any, parameters: Iterable[str]) -> None:
    """Inputs by their own names and the rest by numbers: a parameter may have any name."""
    outputs = {value.name for value in graph.output}
    taken = {*parameters, "x", "gate", *outputs}
    names = {value.name: value.name.removesuffix(_INPUT) for value in graph.input}
    inner = [constant.name for constant in graph.initializer]
    inner += [name for node in graph.node for name in node.output]
    for name in inner:
        if name not in outputs:
            names[name] = unused(f"t{len(names)}", taken)
    for value in (*graph.input, *graph.initializer):
        value.name = names[value.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.ClearField("name")
        del node.metadata_props[:]  # where in which Python file it was traced


def _attach(graph: Any, name: str, parameter: Parameter, size: int) -> list[Any]:
    """Hold a parameter in the graph; the nodes that give it a shape that broadcasts against x."""
    from onnx import TensorProto, helper

    channels = size if parameter.scope == "per channel" else 1
    behind = max(0, -1 - parameter.dimension)  # dimensions behind that of the channels
    fixed = parameter.dimension < 0 or channels == 1
    shape = ([] if channels == 1 else [channels] + [1] * behind) if fixed else [channels]
    stored = name if fixed else f"{name}.values"
    values = [parameter.initial] * channels
    graph.initializer.append(helper.make_tensor(stored, TensorProto.FLOAT, shape, values))
    if fixed:
        return []

    def integers(what: str, *values: int) -> str:
        constant = helper.make_tensor(f"{name}.{what}", TensorProto.INT64, [len(values)], values)
        graph.initializer.append(constant)
        return constant.name

    shape_of_x, rank, ones = f"{name}.shape", f"{name}.rank", f"{name}.ones"
    one = helper.make_tensor("value", TensorProto.INT64, [1], [1])
    return [
        helper.make_node("Shape", ["x"], [shape_of_x]),
        helper.make_node("Shape", [shape_of_x], [rank]),
        helper.make_node("Sub", [rank, integers("first", parameter.dimension + 1)], [f"{rank}s"]),
        helper.make_node("ConstantOfShape", [f"{rank}s"], [ones], value=one),
        helper.make_node("Concat", [integers("size", channels), ones], [f"{name}.view"], axis=0),
        helper.make_node("Reshape", [stored, f"{name}.view"], [name]),
    ]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch.onnx says about itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logger.setLevel(level)
