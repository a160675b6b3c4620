"""Certificates: errors that are there are found, and none that are not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from actsearch.codegen import UnknownTarget, certificate, certificates, compile
from actsearch.codegen.probes import magnitudes, scale
from actsearch.grammar.errors import UsageError


@pytest.mark.parametrize("text", ["gelu(x)", "x*sigmoid(beta*x); beta = 0.7", "x*atan(x)"])
def test_the_accurate_tier_holds(text: str) -> None:
    value, *slopes = certificate(text, target="cpu").errors
    assert value.of == "value"
    assert value.ulps <= 2
    assert all(slope.ulps <= 4 for slope in slopes)
    assert all(error.lost == 0 and error.points > 3000 for error in (value, *slopes))
    assert [slope.of for slope in slopes] == ["x", "beta"][: len(slopes)]


def test_what_an_operator_of_torch_loses_is_found() -> None:
    """Its sigmoid is 0 where the exact value is below the normal numbers."""
    assert torch.sigmoid(torch.tensor(-92.0)) == 0
    value, _ = certificate("sigmoid(x)", target="torch").errors
    assert value.ulps > 1000
    assert -104 < value.at < -87


@pytest.mark.parametrize("text", ["x*sigmoid(1.377*x)", "x*sigmoid(beta*x)"])
def test_what_large_tensors_lose_is_found(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target may treat them differently; here they are wrong."""

    def wrong_in_large_tensors(*arguments: Any, **settings: Any) -> torch.nn.Module:
        module = compile(*arguments, **settings)
        module.register_forward_hook(lambda _, __, y: y if y.numel() < 8000 else y * 1.001)
        return module

    monkeypatch.setattr(certificates, "compile", wrong_in_large_tensors)
    assert all(error.ulps > 1000 for error in certificate(text, "cpu").errors)


def test_half_types_are_off_by_half_a_unit() -> None:
    value, slope = certificate("x*sigmoid(x)", target="cpu", dtype="bfloat16").errors
    assert 0.45 < value.ulps <= 0.5
    assert slope.ulps <= 0.51


def test_both_inputs_of_a_gate_are_measured() -> None:
    found = certificate("x*sigmoid(gate)", target="cpu")
    assert [error.of for error in found.errors] == ["value", "x", "gate"]
    assert max(error.ulps for error in found.errors) < 4


def test_as_text_and_as_data() -> None:
    found = certificate("x + 1", target="cpu", dtype="float64")
    lines = str(found).splitlines()
    assert lines[0] == "x + 1 on cpu, accurate, float64"
    assert lines[1].split()[0] == "result"
    assert lines[3].split()[0] == "d/dx"
    assert found.to_dict()["errors"][1]["ulps"] == 0.0


def test_wrong_names_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no type 'float23'.*did you mean 'float32'"):
        certificate("relu(x)", dtype="float23")
    with pytest.raises(UnknownTarget):
        certificate("relu(x)", target="gpu")
    with pytest.raises(UsageError, match="precision is accurate or fast"):
        certificate("relu(x)", precision="exact")


def test_the_scale_of_errors_is_that_of_the_octave_near_a_root() -> None:
    sizes = magnitudes((-10.0, 10.0), 12)
    assert np.all(np.diff(sizes) > 0)
    values = sizes - 1.0
    found = scale(values, np.abs(values), 12)
    near = np.abs(np.log2(sizes)) < 0.9
    assert np.all(found[near] >= 0.55)
    far = np.abs(np.log2(sizes)) > 1.2
    assert np.array_equal(found[far], np.abs(values)[far])
    assert math.isclose(sizes[-1] / sizes[0], 2.0**20, rel_tol=0.1)


@pytest.mark.parametrize("density", [6, 24])
def test_the_scale_of_errors_near_where_a_function_touches_0(density: int) -> None:
    """As at a root; not at other minima, nor where a function tends to 0."""
    sizes = magnitudes((-10.0, 10.0), density)
    near = np.abs(np.log2(sizes)) < 0.9
    for values in (np.abs(sizes - 1.01), (sizes - 1.01) ** 2, -((sizes - 0.99) ** 2)):
        found = scale(values, np.abs(values), density)
        assert np.all(found[near] >= 0.25)
        far = np.abs(np.log2(sizes)) > 1.3
        assert np.array_equal(found[far], np.abs(values)[far])
    for values in (0.3 + np.abs(sizes - 1), np.exp(-sizes) + 1e-300, sizes**3, 1 / sizes):
        assert np.array_equal(scale(values, np.abs(values), density), np.abs(values))
