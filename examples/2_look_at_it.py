"""Look at an activation: its properties, its gain, its name, and a plot of f and f'."""

import sys
from pathlib import Path

import actsearch as acts
from actsearch.report import plot_expression

hardswish = acts.parse("x*min(max(x + 3, 0), 6)/6")
facts = acts.properties(hardswish)
print("domain:       ", [str(interval) for interval in facts.domain])
print("range:        ", facts.range)
print("monotone:     ", facts.monotone)
print("kinks:        ", [kink.x for kink in facts.kinks])
print("flat on:      ", [str(interval) for interval in facts.zero_gradient])
print("gain:         ", round(acts.gain(hardswish), 4))

# Equal or not, with the reason: a proof, or a point where the two differ.
print(acts.equivalent("x*sigmoid(x)", "x/(1 + exp(-x))"))
print(acts.equivalent("gelu(x)", "x*sigmoid(1.702*x)"))

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
print("plot:         ", plot_expression(hardswish, folder / "hardswish.svg").name)
