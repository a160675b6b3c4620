"""The command line: `actsearch COMMAND …`.

Exit codes: 0 done, 1 failed (for `equal`: different), 2 wrong usage or unparsable input, 130
interrupted with the state saved. With `--json`, stdout carries JSON and nothing else; progress and
notes go to stderr.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from actsearch.cli.arguments import build_parser
from actsearch.grammar.errors import ActSearchError, UsageError
from actsearch.studies.interrupts import interrupts_noted

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `actsearch`; those of the process where it is None.

    Returns:
        The exit code. Wrong usage ends in SystemExit(2), as argparse does it.
    """
    arguments = build_parser().parse_args(argv)
    try:
        with interrupts_noted():
            module, function = arguments.handler.split(":")
            command = getattr(importlib.import_module(f"actsearch.cli.{module}"), function)
            return int(command(arguments))
    except KeyboardInterrupt:
        return _interrupted(arguments)
    except BrokenPipeError:  # `actsearch space swish --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except UsageError as error:
        return _failed(error, USAGE)
    except (ActSearchError, OSError, ImportError) as error:
        return _failed(error, FAILED)


def _failed(error: Exception, code: int) -> int:
    print(f"actsearch: {error}", file=sys.stderr)
    return code


def _interrupted(arguments: object) -> int:
    run = getattr(arguments, "interrupted_run", None)
    note = f"; everything finished is saved, go on with: actsearch resume {run}" if run else ""
    print(f"\nactsearch: interrupted{note}", file=sys.stderr)
    return INTERRUPTED
