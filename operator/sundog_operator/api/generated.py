"""The command line that generated files share: print, `--write PATH ...`, `--check PATH ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def run(text: str, *, module: str, arguments: Sequence[str]) -> int:
    """Print `text`, write it to files, or compare files with it.

    Args:
        text: what the files must hold.
        module: the module that is run, for the advice to the reader.
        arguments: what stands on the command line after the module.

    Returns:
        The exit code: 0, or 1 when a file is not what it must be.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", nargs="+", type=Path, default=[], metavar="PATH", help="write the files")
    what.add_argument("--check", nargs="+", type=Path, default=[], metavar="PATH", help="fail where a file differs")
    options = parser.parse_args(arguments)

    if not options.write and not options.check:
        sys.stdout.write(text)
    for path in options.write:
        path.write_text(text, encoding="utf-8")
    stale = [path for path in options.check if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        sys.stderr.write(f"{path} is not what the models say: run `python -m {module} --write {path}`\n")
    return 1 if stale else 0
