"""A task of your own: a child network and a reward in ten lines, searched like any other."""

import sys
from pathlib import Path

import torch

import actsearch as acts
from actsearch.tasks import ChildResult


class FitAWave:
    """How well a small network with this activation fits a wave; large slopes cost reward."""

    def train(self, expression, seed, split="validation", device="auto"):
        torch.manual_seed(seed)
        f, out = acts.compile(expression, backend="torch"), torch.nn.Linear(16, 1)
        net = torch.nn.Sequential(torch.nn.Linear(1, 16), f, torch.nn.Linear(16, 16), f, out)
        x = torch.linspace(-3, 3, 97 if split == "validation" else 89).unsqueeze(1)
        optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(60):
            loss = (net(x) - torch.sin(3 * x)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if not loss.isfinite():
            return ChildResult(None, None, "failed", "loss is not finite", (), 0.0, seed, 60)
        reward = 1 / (1 + loss.item()) - 1e-3 * out.weight.abs().max().item()
        return ChildResult(reward, loss.item(), "done", None, (), 0.0, seed, 60)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
    # in a module that Python finds, "my_module:FitAWave" also works with worker processes
    study = acts.search(
        "swish",
        task="__main__:FitAWave",
        trials=12,
        asha="fullx1,fullx3",
        run=folder / "wave",
        retest=2,
        retest_seeds=3,
        baselines=["relu(x)", "silu(x)"],
        baseline_seeds=3,
    )
    for row in study.leaderboard():
        print(f"{row['mean']:7.4f} {row['stderr'] or 0:7.4f}  {row['expression']}")
