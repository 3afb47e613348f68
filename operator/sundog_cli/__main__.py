"""`kubectl sundog`: runs a command, and tells a failure in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sundog_cli.app import FAILED, NAME, app
from sundog_cli.errors import Trouble
from sundog_cli.terminal import tell


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, by default the one that stands on the command line; ends the process."""
    try:
        app(arguments, prog_name=NAME)
    except Trouble as trouble:
        tell(f"error: {trouble}")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
