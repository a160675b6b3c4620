"""The target `triton`: run by Triton's interpreter, and compiled ahead of time for real GPUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from actsearch.codegen import compile, export, program
from actsearch.codegen.sources import load
from actsearch.codegen.targets import BuildError, build_best
from actsearch.codegen.targets import triton as target
from actsearch.codegen.targets.triton import rendering
from actsearch.grammar import named_activations, parse
from actsearch.grammar.operators import OPERATORS
from tests.codegen.operator_text import operator_text

triton = pytest.importorskip("triton", reason="needs the extra triton")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

ARCHITECTURES = (80, 90)
CONTRACT = "accurate or sums or lost or ends or layouts or float64 or wrong or empty or autocast"
SECOND = "gradcheck and (swish or per_channel or swiglu or last_dimension)"


def compiled(text: str, kernel: str, architecture: int, dtype: str = "fp32", **flags: bool) -> Any:
    """A kernel's code for an architecture, as it is specialised for aligned tensors."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(load(rendering.source(program(parse(text)))), f"_{kernel}_kernel")
    values = {"BY_ROW": True, "WIDE": dtype == "fp64", "ROWS": 1, "COLUMNS": 1024} | flags
    signature, constants, aligned = {}, {}, {}
    for place, parameter in enumerate(function.params):
        name = parameter.name
        if parameter.is_constexpr:
            signature[name] = "constexpr"
            constants[name] = values.get(name, flags.get("channels", False))
            continue
        signature[name] = f"*{dtype}" if name.endswith("_pointer") else "i32"
        if name.endswith(("_pointer", "_pitch")) or name == "columns":
            aligned[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(function, signature, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32))


# values: in the interpreter


@pytest.mark.parametrize("selection", [CONTRACT, SECOND])
@pytest.mark.timeout(900)
def test_the_contract_in_the_interpreter(selection: str) -> None:
    """The suite's own rows, with libdevice's functions by numpy; it rounds bfloat16 down."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.codegen.triton_interpreter", "-q"]
    command += ["-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning", "--timeout=600"]
    command += ["tests/codegen/test_targets_contract.py", "-k", f"triton and ({selection})"]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 4


# machine code


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", sorted(named_activations()))
def test_named_activations_compile(name: str, architecture: int) -> None:
    text = named_activations()[name].text
    for kernel in ("forward", "backward"):
        assert compiled(text, kernel, architecture).asm["cubin"]


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_operators_compile(name: str) -> None:
    architecture = ARCHITECTURES[len(name) % 2]  # either will do
    assert compiled(operator_text(name), "backward", architecture).asm["cubin"]


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32", "fp64"])
def test_types_and_layouts_compile(dtype: str, by_row: bool) -> None:
    text = "x*sigmoid(beta*gate); beta = 1 per channel"
    flags = {"BY_ROW": by_row, "channels": True}
    code = compiled(text, "backward", 90, dtype, **flags).asm["ptx"]
    assert not re.search(r"\b(atom|red)\.", code), "sums are deterministic"


@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp64"])
def test_memory_is_read_and_written_128_bits_at_a_time(dtype: str) -> None:
    code = compiled("x*sigmoid(x)", "forward", 90, dtype).asm["ptx"]
    wide = {"bf16": ".v4.b32", "fp32": ".v4.b32", "fp64": ".v2.b64"}[dtype]
    for access in ("ld", "st"):
        found = set(re.findall(rf"{access}\.global(\.v\d\.b\d+|\.b\d+)", code))
        assert found == {wide}


# tracing


def test_inductor_sees_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """AOTAutograd's graph, which Inductor is given, calls the kernel itself, and copies nothing."""
    from torch._functorch.aot_autograd import aot_function, make_boxed_func

    class Driver:
        """What Triton asks of a machine before it looks into a kernel."""

        def get_current_target(self) -> Any:
            from triton.backends.compiler import GPUTarget

            return GPUTarget("cuda", 90, 32)

    monkeypatch.setattr(triton.runtime.driver, "_active", Driver())
    module = load(rendering.source(program(parse("x*sigmoid(beta*x)"))))
    graphs: list[str] = []

    def keep(graph: Any, inputs: Any) -> Any:
        graphs.append(str(graph.graph))
        shapes = [node.meta["val"] for node in graph.graph.output_node().args[0]]
        return make_boxed_func(lambda *arguments: [torch.zeros(s.shape) for s in shapes])

    def traced(x: Tensor, beta: Tensor) -> Tensor:
        y: Tensor = module._forward_op(x, beta)
        return y

    x, beta = torch.randn(8, 32, requires_grad=True), torch.ones(1, requires_grad=True)
    aot_function(traced, fw_compiler=keep, bw_compiler=keep)(x, beta).sum().backward()
    assert len(graphs) == 2
    for graph in graphs:
        assert graph.count("target=torch.ops.higher_order.triton_kernel_wrapper_functional") == 1
        assert "aten.clone" not in graph


# life without a GPU


def test_tensors_on_the_cpu_are_refused() -> None:
    activation = compile("x*tanh(x)", backend="triton")
    with pytest.raises(ValueError, match=r"computes on cuda.*\[2, 3\].*cpu"):
        activation(torch.ones(2, 3))


@pytest.mark.parametrize("text", ["x*tanh(b*x); b = 2 per channel", "x*sigmoid(gate)"])
def test_exported_files_use_pytorch_where_no_gpu_is(text: str, tmp_path: Path) -> None:
    path = export(text, "triton", tmp_path / "exported.py")
    script = """
import importlib.util, sys, torch
sys.modules["actsearch"] = None
spec = importlib.util.spec_from_file_location("exported", sys.argv[1])
exported = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exported)
x = torch.linspace(-3, 3, 12, requires_grad=True)
y = exported.Activation()(x.reshape(2, 6))
y.sum().backward()
print(y.sum().item(), x.grad.sum().item())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    x = torch.linspace(-3, 3, 12, requires_grad=True)
    y = compile(text, "torch")(x.reshape(2, 6))
    (slope,) = torch.autograd.grad(y.sum(), x)
    found = [float(word) for word in done.stdout.split()]
    assert found == pytest.approx([y.sum().item(), slope.sum().item()], rel=1e-5)


def test_parameters_may_have_any_name() -> None:
    text = "x*x_pointer + row + columns*tl + beta_sum"
    assert compiled(text, "backward", 90).asm["cubin"]


@pytest.fixture
def without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "find_spec", lambda name: None)


@pytest.mark.usefixtures("without_triton")
def test_without_the_package() -> None:
    assert not target.available()
    with pytest.raises(BuildError, match=r"pip install 'actsearch\[triton\]'"):
        compile("x*sin(x)", backend="triton")
    row, _ = build_best(program(parse("x*sin(x)")), "accurate", "xpu")
    assert row.name == "torch"
