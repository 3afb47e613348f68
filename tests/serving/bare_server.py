"""One replica without Ray Serve: ``python -m tests.serving.bare_server ARGS PORT``.

For tests of an engine and of all that stands around it, where starting Ray would only cost time. It prints ``serving``
once it answers; a start that failed prints the error as Serve would show it, and ends with code 3. SIGUSR1 prints what
a health check says. Each line of its input is a ``user_config``, as Serve hands it on, and ``configured`` says that it
was taken.
"""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from sundog_serving.errors import EngineDeadError, EngineStartError
from sundog_serving.runtime import Runtime

START_FAILED = 3


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print("serving", flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave SIGTERM alone: uvicorn would repeat it once it has ended, before the engine could be stopped."""
        yield


async def main(args: dict[str, object], port: int) -> int:
    try:
        runtime = await Runtime.start(args)
    except EngineStartError as error:
        print(f"EngineStartError: {error}", flush=True)
        return START_FAILED
    server = Server(uvicorn.Config(runtime.app, host="127.0.0.1", port=port, log_level="warning"))
    checks: set[asyncio.Task[None]] = set()

    async def check() -> None:
        try:
            await runtime.check_health()
            print("health: good", flush=True)
        except EngineDeadError as error:
            print(f"health: {type(error).__name__}: {error}", flush=True)

    def on_signal() -> None:
        task = asyncio.create_task(check())
        checks.add(task)
        task.add_done_callback(checks.discard)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, on_signal)

    async def listen() -> None:
        lines = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        async for line in lines:
            await runtime.reconfigure(json.loads(line))
            print("configured", flush=True)

    listening = loop.create_task(listen())
    loop.add_signal_handler(signal.SIGTERM, lambda: setattr(server, "should_exit", True))
    await server.serve()
    listening.cancel()
    await runtime.stop()
    print("stopped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]), int(sys.argv[2]))))
