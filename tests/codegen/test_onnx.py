"""The target `onnx`: graphs run by onnxruntime, beside exact values and our own modules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actsearch.codegen import compile, export, program
from actsearch.codegen.targets import BuildError, onnx
from actsearch.grammar import named_activations, parse
from actsearch.grammar.errors import UsageError
from actsearch.grammar.operators import COMPARISONS, OPERATORS
from tests.codegen.test_targets_contract import CANCELLING, LARGEST, ULP, reference

checker = pytest.importorskip("onnx.checker", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")
runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")

EXTREMES = [0, 1e-40, 1e-30, 1e-8, 17, 44, 60, 87, 89, 104, 500, 1e4, 1e10, 1e20, 1e37]
GRID = np.concatenate(
    [np.random.default_rng(1).normal(0, 2, 300), np.linspace(-8, 8, 161), EXTREMES]
    + [-np.array(EXTREMES)]
).astype(np.float32)
PERIODIC = frozenset({"sin", "cos", "tan", "sinc", "j1"})
NAMED = {name: row.expression for name, row in named_activations().items()}
GATED = {n: e for n, e in NAMED.items() if "gate" in {i.name for i in e.inputs}}
UNGATED = {n: e for n, e in NAMED.items() if n not in GATED}
BINARY = {"add": "x + a", "sub": "x - a", "mul": "x*a", "div": "x/a", "pow": "abs(x)**a"}


def operator_text(name: str) -> str:
    """An activation that has the operator."""
    if name in COMPARISONS:
        return f"where(x {OPERATORS[name].infix} 0.5, x, -0.25)"
    if name == "where":
        return "where(x < -1, 2, where(x > 1, 3, x))"
    if name == "neg":
        return "-x"
    if OPERATORS[name].arity == 1:
        return f"{name}(x)"
    return BINARY.get(name, f"{name}(x, a)") + "; a = 0.75"


def session(model: Any) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@cache
def values(texts: Sequence[str]) -> dict[str, Any]:
    """Values on the grid of many activations, traced as one graph: a tenth of the time."""
    programs = [program(parse(text)) for text in texts]
    model = onnx.model(programs)
    given = {"x": GRID, "gate": GRID[::-1].copy()}
    names = [value.name for value in model.graph.input]
    found = session(model).run(None, {name: given[name] for name in names})
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    return dict(zip(texts, found, strict=True))


def check(text: str, found: Any, slack: Any = 0.0) -> None:
    """Within 8 half-ulps, counting one for each variable's own rounding; nothing is lost."""
    expression = parse(text)
    given = {"x": GRID.astype(np.float64), "gate": GRID[::-1].astype(np.float64)}
    given |= {p.name: np.float64(np.float32(p.initial)) for p in expression.parameters}
    with np.errstate(all="ignore"):
        expected, sensitivity = reference(expression, given)
        error = np.abs(found.astype(np.float64) - expected)
        known = np.isfinite(expected) & (np.abs(expected) < 0.99 * LARGEST)
        known &= np.isfinite(sensitivity)
        bound = 8 * ULP * (sensitivity + slack) + 1e-36
        wrong = known & ~(error <= bound)
    assert not wrong.any(), (GRID[wrong][:5], found[wrong][:5], expected[wrong][:5])


@pytest.mark.parametrize("name", UNGATED)
def test_named_activations(name: str) -> None:
    texts = tuple(str(expression) for expression in UNGATED.values())
    found = values(texts)[str(UNGATED[name])]
    check(str(UNGATED[name]), found, np.abs(GRID) if name in CANCELLING else 0.0)


@pytest.mark.parametrize("name", GATED)
def test_gated_activations(name: str) -> None:
    texts = tuple(str(expression) for expression in GATED.values())
    check(str(GATED[name]), values(texts)[str(GATED[name])])


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str) -> None:
    found = values(tuple(operator_text(name) for name in OPERATORS))[operator_text(name)]
    check(operator_text(name), found, 1.0 if name in PERIODIC else 0.0)


def test_the_ends_of_the_line() -> None:
    names = ["silu", "mish", "gelu", "softsign", "tanh", "relu", "hardtanh", "selu", "gaussian"]
    x = torch.tensor([-np.inf, np.inf, np.nan, 0.0])
    model = onnx.model([program(NAMED[name]) for name in names])
    found = session(model).run(None, {"x": x.numpy()})
    for name, y in zip(names, found, strict=True):
        expected = compile(NAMED[name], backend="torch")(x).detach().numpy()
        np.testing.assert_array_equal(y, expected, name)


@pytest.mark.parametrize("scope", ["per channel", "per channel dim -1", ""])
def test_exported_files_agree_with_modules(tmp_path: Path, scope: str) -> None:
    """For any number of dimensions, and whatever the parameters are called."""
    text = f"x*sigmoid(y*x) - t7; y = 1.5 {scope}, t7 = 0.25 {scope}"
    channels = 3 if scope else 1
    path = export(text, "onnx", tmp_path, channels)
    module = compile(text, "torch", num_parameters=channels)
    for shape in [(2, 3), (3, 3), (2, 3, 3), (2, 3, 5, 3), (0, 3)]:
        x = torch.randn(shape)
        found = torch.from_numpy(session(loaded(path)).run(None, {"x": x.numpy()})[0])
        torch.testing.assert_close(found, module(x).detach(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 5)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    texts = ("2*pi", "_; _ = 0.5", "x", "x**2 + 1")
    x = np.full(shape, 2.0, np.float32)
    found = session(graph(texts)).run(None, {"x": x})
    for text, y in zip(texts, found, strict=True):
        assert y.shape == shape
        expected = compile(text, "torch")(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_array_equal(y, expected)


@cache
def graph(texts: Sequence[str]) -> Any:
    return onnx.model([program(parse(text)) for text in texts])


def loaded(path: Path) -> Any:
    import onnx as package

    return package.load(path)


def test_what_a_file_says(tmp_path: Path) -> None:
    """Its formula, its opset, and its parameters by name."""
    path = export("x*tanh(beta*x); beta = 2", "onnx", tmp_path)
    assert path.name == "activation.onnx"
    model = loaded(path)
    assert "tanh(beta*x)" in model.doc_string
    assert [entry.version for entry in model.opset_import] == [onnx.OPSET]
    assert "beta" in {constant.name for constant in model.graph.initializer}
    assert [value.name for value in model.graph.input] == ["x"]
    assert [value.name for value in model.graph.output] == ["y"]


def test_a_declared_rank_satisfies_the_checker(tmp_path: Path) -> None:
    text = "x*tanh(a*x); a = 2 per channel"
    path = export(text, "onnx", tmp_path, num_parameters=3, rank=4)
    model = loaded(path)
    checker.check_model(model, full_check=True)
    assert len(model.graph.input[0].type.tensor_type.shape.dim) == 4
    with pytest.raises(UsageError, match="rank is an option of the target onnx, not of torch"):
        export(text, "torch", tmp_path, rank=4)
    with pytest.raises(UsageError, match="at least 1, not 0"):
        export(text, "onnx", tmp_path, rank=0)
    assert [file.name for file in tmp_path.iterdir()] == ["activation.onnx"]


def test_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "swish.onnx"
    command = [sys.executable, "-m", "actsearch", "export", "x*sigmoid(x)"]
    done = subprocess.run(
        [*command, "--target", "onnx", "--output", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    y = session(loaded(path)).run(None, {"x": np.array([1.0], np.float32)})[0]
    assert y.item() == pytest.approx(1 / (1 + np.exp(-1.0)), rel=1e-6)


def test_it_makes_no_modules() -> None:
    with pytest.raises(BuildError, match="exported files"):
        compile("x", backend="onnx")


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r"pip install 'actsearch\[onnx\]'"):
        export("x", "onnx", tmp_path)
    assert not list(tmp_path.iterdir())
