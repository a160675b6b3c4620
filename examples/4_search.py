"""Search a space for the activation that trains a small network best, with honest error bars."""

import sys
from pathlib import Path

import actsearch as acts
from actsearch.report import write_report

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
study = acts.search(
    "swish",
    units=1,
    task="digits-mlp",
    driver="evolution",
    trials=12,
    seed=1,
    run=folder / "example",
    retest=2,
    retest_seeds=2,
    baseline_seeds=2,
    task_options={"steps": 60},
)
print(f"{'mean':>7} {'stderr':>7}  activation")
for row in study.leaderboard():
    print(f"{row['mean']:7.4f} {row['stderr'] or 0:7.4f}  {row['expression']}")
print("report:", write_report(study).name)
