"""What a finished study leaves: its report, and its winner as code that needs no ActSearch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actsearch.studies.study import Study


def deliver(study: Study) -> dict[str, Path]:
    """Write `report.html`, `winner.py` and `winner.pt` into the run directory.

    The winner is the best searched candidate of the leaderboard (the re-test's, where there was
    one). A study without a successful candidate gets only the report.

    Returns:
        What was written: "report", and with a winner "PyTorch module" and "TorchScript".
    """
    from actsearch.report import write_report

    files = {"report": write_report(study)}
    if study.best is not None:
        from actsearch.codegen import export

        winner = study.best["expression"]
        files["PyTorch module"] = export(winner, target="torch", path=study.run / "winner.py")
        files["TorchScript"] = export(winner, target="torchscript", path=study.run / "winner.pt")
    return files
