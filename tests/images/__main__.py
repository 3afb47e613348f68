"""``python -m tests.images build|export|load``: make the test images, copy their archives, load them into a cluster."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.__main__ import main as cluster_main
from tests.cluster.errors import ClusterError

from .making import images
from .recipes import RECIPES, TAGS


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    made = argparse.ArgumentParser(prog="python -m tests.images", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make what is not made yet, and print the archives")
    export = commands.add_parser("export", help="make what is not made yet, and copy the archives into a folder")
    export.add_argument("folder", type=Path)
    load = commands.add_parser("load", help="make what is not made yet, and import it into a cluster of tests.cluster")
    load.add_argument("--cluster", default="sundog", metavar="NAME", help="name of the cluster (default: sundog)")
    for command in (build, export, load):
        command.add_argument("--image", action="append", choices=list(RECIPES), help="only this one; may be repeated")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a failure is told in one sentence."""
    asked = parser().parse_args(arguments)
    try:
        for name, archive in images(names=asked.image or RECIPES).items():
            if asked.command == "build":
                print(f"{TAGS[name]}\t{archive.stat().st_size / 1e6:.0f} MB\t{archive}")
            elif asked.command == "export":
                asked.folder.mkdir(parents=True, exist_ok=True)
                print(shutil.copy(archive, asked.folder))
            elif failed := cluster_main(["load-image", f"--name={asked.cluster}", str(archive)]):
                return failed
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
