"""``python -m tests.models environment|tiny|…``: make what the tests and the demo need, and print where it is."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.models.catalogue import MODELS, model
from tests.models.environment import environment
from tests.models.store import NotMadeError

TARGETS: dict[str, Callable[[], Path]] = {"environment": environment, **{name: partial(model, name) for name in MODELS}}


def main() -> int:
    """Make each target named on the command line, in order.

    Returns:
        0, or 1 when something could not be made (a sentence on stderr says why), or 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.models", description=__doc__)
    parser.add_argument("target", nargs="+", choices=[*TARGETS, "all"])
    wanted: list[str] = parser.parse_args().target
    try:
        for target in TARGETS if "all" in wanted else wanted:
            print(TARGETS[target](), flush=True)
    except NotMadeError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing half-made is left in the cache's way", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
