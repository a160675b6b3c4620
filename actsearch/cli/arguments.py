"""What the commands take: the argument parser, free of anything slow to import."""

from __future__ import annotations

import argparse
from pathlib import Path

from actsearch import __version__
from actsearch.counts import natural, positive

_EXPRESSION = 'an activation, such as "x*sigmoid(beta*x)"'
_SPACE = "a space that ships (actsearch list spaces) or the path of a .lark file"


def build_parser() -> argparse.ArgumentParser:
    """The parser; each command's `handler` names the function that carries it out."""
    parser = argparse.ArgumentParser(
        prog="actsearch",
        description="Write, inspect, compare, search and export neural-network activations.",
        epilog="Every command takes --json. Start with: actsearch show 'x*sigmoid(beta*x)'",
    )
    parser.add_argument("--version", action="version", version=f"actsearch {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_show, _certificate, _equal, _export, _space, _dedup, _search, _resume, _report):
        add(commands)
    for add in (_compare, _list, _bench, _worker, _table):
        add(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: str,
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=description, description=description)
    parser.set_defaults(handler=handler)
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    return parser


def _option(text: str) -> tuple[str, object]:
    """`key=value`, the value read as JSON where it is some."""
    import json

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"expected name=value, not {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _show(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "show",
        "expressions:show",
        "everything about one activation: simplified form, derivatives, properties, gain, name",
    )
    parser.add_argument("expression", help=_EXPRESSION)
    parser.add_argument("--latex", action="store_true", help="print the formulas as LaTeX, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot f and f' (.png .svg .pdf)")


def _certificate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "certificate",
        "expressions:certificate",
        "measured errors of an activation's code, against the formula in many digits",
    )
    parser.add_argument("expression", help=_EXPRESSION)
    parser.add_argument("--target", default="auto", help="default: auto, the best one here")
    parser.add_argument("--precision", default="accurate", help="accurate (default) or fast")
    parser.add_argument("--dtype", default="float32", help="default: float32")


def _equal(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "equal",
        "expressions:equal",
        "whether two activations are the same function, and why; exits 0 if they are, 1 if not",
    )
    parser.add_argument("a", help=_EXPRESSION)
    parser.add_argument("b", help=_EXPRESSION)
    _equivalence_arguments(parser)


def _equivalence_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--level", default="function", metavar="L",
        help="what counts as the same: function (default), reparameterised or affine",
    )  # fmt: skip
    parser.add_argument(
        "--parameters", choices=("independent", "shared"), default="independent",
        help="whether each hole _ is a parameter of its own (default) or all of them are one",
    )  # fmt: skip


def _export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "export",
        "expressions:export",
        "write an activation as a self-contained file that runs without ActSearch",
    )
    parser.add_argument("expression", help=_EXPRESSION)
    parser.add_argument("--target", required=True, help="see: actsearch list targets")
    parser.add_argument("--output", required=True, type=Path, metavar="PATH")
    parser.add_argument(
        "--rank", type=positive, metavar="N",
        help="for onnx: the number of dimensions that inputs are declared to have (default: any)",
    )  # fmt: skip


def _space_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("space", help=_SPACE)
    parser.add_argument("--units", type=positive, metavar="N", help="number of core units")


def _space(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "space", "spaces:show_space", "count, list, sample or index a search space"
    )
    _space_arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--count", action="store_true", help="how many names it has (the default)")
    what.add_argument("--sample", type=natural, metavar="K", help="K names, uniformly at random")
    what.add_argument("--at", type=int, metavar="I", help="the name with index I")
    what.add_argument("--list", action="store_true", help="every name, in index order")
    parser.add_argument("--seed", type=int, default=0, help="for --sample (default: 0)")


def _dedup(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "dedup", "spaces:dedup", "group a search space into classes of equal functions"
    )
    _space_arguments(parser)
    _equivalence_arguments(parser)
    parser.add_argument(
        "--members", metavar="WHICH", help="list the class of an expression or of an index"
    )
    parser.add_argument(
        "--output", type=Path, metavar="PATH",
        help="save the classes in a file; a large space that is in it already is not grouped again",
    )  # fmt: skip
    parser.add_argument(
        "--audit", type=natural, default=0, metavar="N",
        help="check N random merges, and N pairs that nearly collide, at fresh points",
    )  # fmt: skip
    parser.add_argument(
        "--processes", type=positive, default=2, metavar="P",
        help="for a space too large to be grouped name by name (default: 2)",
    )  # fmt: skip


def _task_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="mnist1d-mlp", help="see: actsearch list tasks")
    parser.add_argument(
        "--task-option", type=_option, action="append", default=[], metavar="NAME=VALUE",
        help="override the task's recipe, such as steps=200; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=natural, default=0, metavar="W",
        help="worker processes; 0 trains in this one (default: 0)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")


def _search(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "search", "studies:search", "search a space for the best activation of a task"
    )
    _space_arguments(parser)
    _task_arguments(parser)
    parser.add_argument("--driver", default="evolution", help="see: actsearch list drivers")
    parser.add_argument(
        "--driver-option", type=_option, action="append", default=[], metavar="NAME=VALUE",
        help="a setting of the driver; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--level", default="function", metavar="L",
        help="what counts as the same candidate and is not trained again: function (default), "
        "reparameterised or affine (what neighbouring layers make up for), or none",
    )  # fmt: skip
    parser.add_argument(
        "--asha", action="store_true",
        help="successive halving: many candidates with few steps or seeds, the better with more",
    )  # fmt: skip
    parser.add_argument(
        "--rungs", metavar="STEPSxSEEDS,…", help="of --asha, such as 100x1,fullx1,fullx4"
    )
    parser.add_argument(
        "--warm-start", metavar="WHAT",
        help="begin with the named activations ('named') or with what an earlier RUN has found",
    )  # fmt: skip
    parser.add_argument("--trials", type=positive, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--run", type=Path, metavar="DIR", help="where the study is kept")
    parser.add_argument(
        "--retest", type=natural, default=5, metavar="K",
        help="how many of the best are trained anew and tested; 0 for none (default: 5)",
    )  # fmt: skip
    parser.add_argument(
        "--retest-seeds", type=positive, default=5, metavar="N", help="seeds of the re-test"
    )
    parser.add_argument(
        "--require", action="append", default=[], metavar="CONSTRAINT",
        help="train only what keeps it: 'cost<=12', monotone, module:function …; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--store", metavar="URL",
        help="keep the study in PostgreSQL: postgresql://user@host/database",
    )  # fmt: skip
    parser.add_argument(
        "--executor", choices=("inline", "local", "ray", "submitit", "shared"),
        help="shared: `actsearch worker` processes train (default: local with --workers)",
    )  # fmt: skip
    parser.add_argument(
        "--executor-option", type=_option, action="append", default=[], metavar="NAME=VALUE",
        help="of ray.init, or of submitit such as slurm_partition=gpu; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--gpus", type=float, default=0.0, metavar="G", help="for each training, 0.25 shares one"
    )
    parser.add_argument(
        "--track", choices=("tensorboard", "wandb", "mlflow"), action="append", default=[],
        help="results as they come; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--time-limit", type=float, metavar="S", help="seconds for one training; then it fails"
    )
    parser.add_argument(
        "--memory-limit", type=positive, metavar="MB", help="for one training, on Linux"
    )


def _resume(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "resume", "studies:resume", "go on with a study that was stopped")
    parser.add_argument("run_directory", type=Path, metavar="RUN")
    parser.add_argument("--workers", type=natural, metavar="W", help="default: as at the start")


def _report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "report", "studies:report", "print a study's leaderboard, write its HTML report"
    )
    parser.add_argument("run_directory", type=Path, metavar="RUN")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: RUN/report.html")
    parser.add_argument(
        "--export", type=Path, action="append", default=[], metavar="FILE",
        help="every child as a row of a *.csv, *.jsonl or *.parquet; may be repeated",
    )  # fmt: skip


def _compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "compare", "studies:compare", "train activations on a task with several seeds"
    )
    parser.add_argument("expressions", nargs="+", metavar="EXPR", help=_EXPRESSION)
    _task_arguments(parser)
    parser.add_argument("--seeds", type=positive, default=5, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the first seed")


def _list(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "list", "catalogue:list_names", "what there is to choose from")
    parser.add_argument("what", choices=["targets", "tasks", "drivers", "spaces"])


def _bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "bench", "benchmarks:bench", "measure here: actsearch bench dedup|drivers|queue …"
    )
    parser.add_argument("name", metavar="NAME", help="which benchmark")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="bench NAME --help lists them")


def _worker(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "worker", "studies:worker", "join a study (--executor shared) and train for it"
    )
    parser.add_argument("study", metavar="RUN", help="its run directory; with --store, its name")
    parser.add_argument("--store", metavar="URL", help="the PostgreSQL database that it is kept in")


def _table(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    description = "tables of trained activation functions: show one, or train one"
    parser = commands.add_parser("table", help=description, description=description)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = _command(
        actions, "build", "tables:build", "train every class of a space; run it again to go on"
    )
    _space_arguments(build)
    _task_arguments(build)
    build.add_argument("--seeds", type=positive, default=4, metavar="N")
    build.add_argument("--sample", type=positive, metavar="K", help="only K of the candidates")
    build.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run directory")
    build.add_argument("--output", type=Path, required=True, metavar="FILE", help="*.json.xz")
    show = _command(actions, "show", "tables:show", "what a table holds, and its best functions")
    show.add_argument("table", help="the name of one that ships, or the path of a *.json.xz")
    show.add_argument("--top", type=natural, default=10, metavar="K")
