"""Take an activation out of ActSearch: into a model here, and as a file that needs only PyTorch."""

import importlib.util
import sys
from pathlib import Path

import torch

import actsearch as acts

winner = "max(x, tanh(x))"

# In a model here: any torch.nn.Module can hold it.
model = torch.nn.Sequential(torch.nn.Linear(4, 8), acts.compile(winner), torch.nn.Linear(8, 1))
print(model)

# As plain PyTorch source, and as TorchScript.
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
source = acts.export(winner, target="torch", path=folder / "winner.py")
script = acts.export(winner, target="torchscript", path=folder / "winner.pt")

spec = importlib.util.spec_from_file_location("winner", source)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
x = torch.linspace(-3, 3, 7)
print("from source:     ", module.Activation()(x).tolist())
print("from TorchScript:", torch.jit.load(script)(x).tolist())
