"""Curves that are cut where the function is, and the files they are drawn into."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from actsearch.codegen import gradient
from actsearch.grammar import ExpressionError, parse
from actsearch.report import PlotError, plot_expression
from actsearch.report.curves import sample
from actsearch.report.figure import drawing
from actsearch.report.palette import DARK, LIGHT, LineStyle, line_styles
from actsearch.report.plots import caption, inline_plot
from tests.actsearch.fake_study import row


def pieces(text: str) -> list[tuple[float, float]]:
    return [(float(x[0]), float(x[-1])) for x, _ in sample(parse(text)).pieces]


@pytest.mark.parametrize(
    "text",
    ["relu(x)", "x*sigmoid(x)", "cbrt(x)", "sign(x)*abs(x)**0.1", "exp(x)", "sin(20*x)", "3"],
)
def test_a_continuous_function_is_one_piece(text: str) -> None:
    assert pieces(text) == [(-6.0, 6.0)]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("where(x > 0.123, 1, 0)", [(-6, 0.123), (0.123, 6)]),
        ("1/x", [(-6, 0), (0, 6)]),
        ("1/(x - 1/3)", [(-6, 1 / 3), (1 / 3, 6)]),
        ("sqrt(x)", [(0, 6)]),
        ("log(x + pi)", [(-math.pi, 6)]),
        ("sqrt(x*x - 2)", [(-6, -math.sqrt(2)), (math.sqrt(2), 6)]),
        ("asin(x/3)", [(-3, 3)]),
        ("sqrt(-1 - x*x)", []),
        ("exp(exp(exp(x)))", [(-6, math.log(math.log(math.log(sys.float_info.max))))]),
    ],
)
def test_a_curve_ends_where_its_function_jumps_or_ends(
    text: str, ends: list[tuple[float, float]]
) -> None:
    found = np.reshape(pieces(text), (-1, 2))
    np.testing.assert_allclose(found, np.reshape(ends, (-1, 2)), atol=1e-9)


def test_an_isolated_value_is_a_piece_of_its_own() -> None:
    left, middle, right = sample(parse("sign(x)")).pieces
    assert set(left[1]) == {-1.0}
    assert (middle[0].tolist(), middle[1].tolist()) == ([0.0], [0.0])
    assert set(right[1]) == {1.0}


def test_a_pole_between_samples_is_found() -> None:
    curve = sample(parse("1/(x - 0.004999)"))
    assert len(curve.pieces) == 2
    low, high = curve.view
    assert -30 < low < 0 < high < 30


def test_samples_of_a_piece_are_increasing_and_finite() -> None:
    for text in ("tan(x)/x", "log(abs(x))", "x**-3", "where(x < 1, 1/x, sqrt(x - 2))"):
        for x, y in sample(parse(text)).pieces:
            assert np.all(np.diff(x) > 0)
            assert np.isfinite(y).all()


def test_a_derivative_ends_where_its_function_does() -> None:
    f = parse("log(x)")
    derivative = gradient(f)["x"]
    assert len(sample(derivative).pieces) == 2
    [(x, _)] = sample(derivative, within=f).pieces
    assert x[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("relu(x)", 0, 6), ("tanh(x)", -1, 1), ("exp(x)", 0, 30), ("x**2", 0, 36), ("0*x", -1, 1)],
)
def test_the_view_holds_what_matters(text: str, low: float, high: float) -> None:
    bottom, top = sample(parse(text)).view
    margin = 0.2 * (high - low)
    assert low - margin <= bottom <= low
    assert top <= high + margin
    assert top >= 0.6 * high


BEGINNINGS = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF", ".SVG": b"<?xml"}


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_a_plot_is_written_in_the_format_of_its_suffix(tmp_path: Path, suffix: str) -> None:
    first = plot_expression("x*sigmoid(beta*x)", tmp_path / f"a{suffix}")
    again = plot_expression("x*sigmoid(beta*x)", tmp_path / f"b{suffix}")
    assert first.read_bytes().startswith(BEGINNINGS[suffix])
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("name", ["plot.jpg", "plot", "plot.svgz", ".svg"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PlotError, match=r"\.png, \.svg, \.pdf") as caught:
        plot_expression("relu(x)", tmp_path / name)
    assert name in str(caught.value)
    assert not list(tmp_path.iterdir())


def lines_of(path: Path) -> list[str]:
    """The curves of an SVG file: its thick lines."""
    return re.findall(r'<path d="([^"]+)" clip-path[^>]*stroke-width: 1.8', path.read_text())


def test_a_line_breaks_where_the_function_does(tmp_path: Path) -> None:
    whole = plot_expression("x*sigmoid(x)", tmp_path / "whole.svg", derivatives=0)
    broken = plot_expression("1/x", tmp_path / "broken.svg", derivatives=0)
    both = plot_expression("relu(x)", tmp_path / "relu.svg")
    assert [len(lines_of(path)) for path in (whole, broken, both)] == [1, 2, 3]
    assert all(line.count("M") == 1 for line in lines_of(broken))


def test_nothing_is_drawn_of_what_is_undefined(tmp_path: Path) -> None:
    path = plot_expression("sqrt(-1 - x*x)", tmp_path / "plot.svg")
    assert lines_of(path) == []
    assert path.read_text().count(">undefined here<") == 2


def test_derivatives_titles_and_names(tmp_path: Path) -> None:
    text = plot_expression("x*sigmoid(beta*x)", tmp_path / "plot.svg", derivatives=2).read_text()
    for part in ("f(x)", "f′(x)", "f″(x)", "x*sigmoid(beta*x)", "Swish / SiLU"):
        assert part in text
    comparison = plot_expression("where(x < 1, 0, x)", tmp_path / "plot.svg").read_text()
    assert "where(x &lt; 1, 0, x)" in comparison


def test_a_family_of_curves(tmp_path: Path) -> None:
    path = plot_expression(
        "x*sigmoid(beta*x)", tmp_path / "plot.svg", {"beta": [0.1, 1, 10]}, derivatives=0
    )
    assert len(lines_of(path)) == 3
    assert all(f"beta = {value}" in path.read_text() for value in ("0.1", "1", "10"))


def test_a_gated_activation_is_drawn_for_several_gates(tmp_path: Path) -> None:
    path = plot_expression("x*sigmoid(gate)", tmp_path / "plot.svg", derivatives=0)
    assert len(lines_of(path)) == 3
    assert "gate = −2" in path.read_text()
    one = plot_expression("x*sigmoid(gate)", tmp_path / "one.svg", {"gate": 1}, derivatives=0)
    assert len(lines_of(one)) == 1
    family = plot_expression("x*sigmoid(b*gate)", tmp_path / "two.svg", {"b": [1, 2]}, 0)
    assert len(lines_of(family)) == 2


@pytest.mark.parametrize("text", ["3", "beta", "relu(gate)", "pi; "])
def test_functions_without_x_are_drawn(tmp_path: Path, text: str) -> None:
    if text.endswith("; "):
        text = text[:-2]
    assert lines_of(plot_expression(text, tmp_path / "plot.svg"))


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    with pytest.raises(PlotError, match="did you mean 'beta'"):
        plot_expression("x*sigmoid(beta*x)", path, {"bet": 1})
    with pytest.raises(PlotError, match="only one name"):
        plot_expression("a*x + b", path, {"a": [1, 2], "b": [1, 2]})
    with pytest.raises(PlotError, match="1 to 6 values"):
        plot_expression("a*x", path, {"a": [1.0] * 7})
    with pytest.raises(PlotError, match="finite"):
        plot_expression("a*x", path, {"a": math.nan})
    with pytest.raises(PlotError, match="derivatives"):
        plot_expression("x", path, derivatives=3)
    with pytest.raises(PlotError, match="smaller to a larger"):
        plot_expression("x", path, span=(1, -1))
    with pytest.raises(ExpressionError):
        plot_expression("x +* 2", path)
    assert not path.exists()


def test_huge_values_and_long_texts(tmp_path: Path) -> None:
    long = " + ".join(f"x**{i}" for i in range(2, 20))
    for i, text in enumerate(("1e300*x*x", "1e-300*x", "x**-20", "exp(exp(x))", long)):
        path = plot_expression(text, tmp_path / f"{i}.svg", derivatives=0)
        assert lines_of(path)
        assert "nan" not in path.read_text()


def test_without_matplotlib_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotError, match=r"pip install 'actsearch\[plot\]'"):
        plot_expression("relu(x)", tmp_path / "plot.svg")


def test_matplotlib_is_left_as_it_was(tmp_path: Path) -> None:
    code = (
        "import sys, actsearch.report as r\n"
        "assert 'matplotlib' not in sys.modules and 'jinja2' not in sys.modules\n"
        "import matplotlib\n"
        "before = dict(dict.items(matplotlib.rcParams))\n"
        f"r.plot_expression('relu(x)', {str(tmp_path / 'plot.png')!r})\n"
        "assert dict(dict.items(matplotlib.rcParams)) == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


class Attributes(HTMLParser):
    """Ids of an inline SVG, and what refers to them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.used: set[str] = set()
        self.label = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            self.used |= set(re.findall(r"url\(#([^)]+)\)", value or ""))
            if name == "href":
                self.used.add((value or "").removeprefix("#"))
            if name == "aria-label":
                self.label = value or ""


def test_an_inline_plot_fits_into_any_page() -> None:
    line = LineStyle("blue", (6.0, 2.0))
    with drawing():
        one = inline_plot("where(x < 0, sign(x), 1)", line, "f1")
        two = inline_plot("where(x < 0, sign(x), 1)", line, "f2")
    first, second = Attributes(one), Attributes(two)
    assert first.ids
    assert first.used <= set(first.ids)
    assert not set(first.ids) & set(second.ids)
    assert len(first.ids) == len(set(first.ids))
    assert "where(x < 0, sign(x), 1)" in first.label
    assert "&lt; 0" in one
    assert "var(--blue)" in one
    for unwanted in ("#fe00", "<?xml", "<metadata", "xlink", "http", "<style", "font-family"):
        assert unwanted not in one


def test_what_a_plot_holds_fixed() -> None:
    assert caption("relu(x)") == ""
    assert caption("x*sigmoid(beta*x); beta = 0.5") == "beta = 0.5"
    assert caption("x*sigmoid(b*gate)") == "b = 1, gate = −2, 0, 2"


def test_line_styles_differ_and_baselines_are_grey() -> None:
    rows = [row(f"x + {i}", {0: 1.0}, trial=i) for i in range(18)]
    rows += [row(f"x - {i}", {0: 1.0}) for i in range(8)]
    styles = line_styles(rows)
    assert len({(style.colour, style.dash) for style in styles.values()}) == len(rows)
    assert all(styles[f"x - {i}"].colour in ("grey", "stone") for i in range(8))
    assert all(style.colour in LIGHT for style in styles.values())


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_with_the_page(palette: dict[str, str]) -> None:
    """WCAG 2.1: 4.5 for text, 3 for graphics."""
    page = _luminance(palette["paper"])
    for name, colour in palette.items():
        low, high = sorted((page, _luminance(colour)))
        least = {"ink": 7, "muted": 4.5, "rule": 1.2, "paper": 1, "stone": 2.5}.get(name, 3)
        assert (high + 0.05) / (low + 0.05) >= least, name
