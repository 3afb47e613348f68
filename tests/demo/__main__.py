"""``python -m tests.demo up|down|prepare``: what the make targets demo, demo-down, packages, images and so on run."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine

from .board import Board
from .errors import DemoError
from .parts import PREPARED, make
from .settings import Settings, read


async def _run(command: str, settings: Settings, wanted: list[str]) -> None:
    # The imports stand here because the openai client takes a second to import, which only one command needs.
    if command == "up":
        from .up import up  # noqa: PLC0415

        await up(settings)
    elif command == "down":
        from .down import down  # noqa: PLC0415

        await down(settings)
    else:
        async with Board() as board:
            await make(board, PREPARED, wanted or PREPARED, logs=settings.folder / "log")


def _until_interrupted(work: Coroutine[None, None, None]) -> None:
    """Run to the end, or until Ctrl-C or a signal to end.

    Raises:
        KeyboardInterrupt: it was interrupted. Whatever else went wrong then is a consequence: the terminal sends
            Ctrl-C to everything that runs in it.
    """
    interrupted = False

    async def run() -> None:
        task = asyncio.ensure_future(work)

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupt)
        await task

    try:
        asyncio.run(run())
    except (Exception, asyncio.CancelledError):
        if interrupted:
            raise KeyboardInterrupt from None
        raise


def main() -> int:
    """Run a command.

    Returns:
        0; 1 after a failure, told in a sentence; 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="from a bare machine to a streamed answer")
    commands.add_parser("down", help="take away what 'up' started; what it built is kept")
    prepare = commands.add_parser("prepare", help="make what 'up' and the tests need")
    prepare.add_argument("part", nargs="*", help=f"default: all of {', '.join(PREPARED)}")
    asked = parser.parse_args()
    wanted = getattr(asked, "part", [])
    if unknown := [name for name in wanted if name not in PREPARED]:
        parser.error(f"there is no part {unknown[0]!r}: there are {', '.join(PREPARED)}")
    try:
        _until_interrupted(_run(asked.command, read(), wanted))
    except DemoError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
