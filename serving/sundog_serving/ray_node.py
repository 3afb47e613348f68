"""``ray start`` for Sundog's nodes, in four things other than Ray's own; Ray is pinned exactly, tests look at each.

It loads no command but its own. Ray's command line brings those for jobs, states and Serve with it: more than half of
what is loaded before a node can begin, and a request that waits at zero waits for that, too.

It begins without Ray's two agents, Python programs that are slower to load than all else. A raylet takes part in the
cluster once it finds the agents' ports in the files in which they note them. Here these ports are told on the command
line, so they are noted before, and the agents (metrics, runtime environments) start three seconds later: by then the
replica's process has loaded, which they would have shared the processors with. Whoever calls an agent that does not
listen yet tries again, as after its crash.

A head runs nothing that Sundog does not use. Ray starts by default a Ray Client server (port 10001: code from outside),
the job API, and dashboard modules for jobs, data, training, events and state, each a process of its own. Sundog needs
one of them: Serve's REST API. Ray has no option for this.

A worker that is told to end waits for its successor and its requests, and not for its head. Ray asks the head to drain
the node, and then waits until it is empty: Serve starts another replica elsewhere, sends requests to this one until
that one runs, and stops this one then. Without a head, as when the whole LLMDeployment is deleted, nobody ever says
that the node is empty: an idle worker would hold its GPU until the drain times out, twenty minutes later by default.

    python3 -m sundog_serving.ray_node start …
"""

import json
import os
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from types import ModuleType
from typing import Any, Final

from ray._private import ray_constants, services
from ray._private.node import Node
from ray._raylet import (  # type: ignore[attr-defined]  # it is compiled
    DASHBOARD_AGENT_LISTEN_PORT_NAME,
    METRICS_AGENT_PORT_NAME,
    METRICS_EXPORT_PORT_NAME,
    RUNTIME_ENV_AGENT_PORT_NAME,
    persist_port,
)

from sundog_serving.contract import (
    HEALTH_ROUTE,
    LOAD_ROUTE,
    REPLICA_PORT,
    REPLICA_TOKEN_HEADER,
    REPLICA_TOKEN_VARIABLE,
)

COMMANDS: Final = ("ray.dashboard.modules.job.cli", "ray.serve.scripts", "ray.util.state.state_cli")
"""Left out; Ray takes them for ones whose packages are not installed."""
MODULES: Final = ("ServeHead",)
AGENTS_BEHIND: Final = """sh -c 'sleep 3; exec nice -n 10 "$0" "$@"'"""
"""How the agents start: late, and then they take what the replica leaves of the processors."""
IDLE_SECONDS: Final = 10.0
"""Without a request for so long: the routers have taken the replica out since."""
_ANSWER_SECONDS: Final = 5.0


def main() -> None:
    """Run Ray's command line."""
    sys.modules.update(dict.fromkeys(COMMANDS))  # type: ignore[arg-type]  # None: an import of it fails
    from ray.scripts import scripts  # noqa: PLC0415  only now

    _begin_before_the_agents()
    _change_commands()
    if "--head" in sys.argv:
        _leave_out_ray_client(scripts)
    else:
        _drain_for_requests_only()
    scripts.main()  # type: ignore[no-untyped-call]


def _begin_before_the_agents() -> None:
    start_raylet = Node.start_raylet

    def start_with_ports(node: Any, *args: Any, **kwargs: Any) -> None:
        parameters = node._ray_params  # noqa: SLF001 there is no public one
        ports = {
            METRICS_AGENT_PORT_NAME: parameters.metrics_agent_port,
            METRICS_EXPORT_PORT_NAME: parameters.metrics_export_port,
            DASHBOARD_AGENT_LISTEN_PORT_NAME: parameters.dashboard_agent_listen_port,
            RUNTIME_ENV_AGENT_PORT_NAME: parameters.runtime_env_agent_port,
        }
        for name, port in ports.items():
            if port:  # otherwise the agent chooses one
                persist_port(node._session_dir, node._node_id, name, port)  # noqa: SLF001 likewise
        start_raylet(node, *args, **kwargs)

    setattr(Node, "start_raylet", start_with_ports)  # noqa: B010


def _change_commands() -> None:
    start_process = services.start_ray_process

    def start_changed(command: list[str], process_type: str, *args: Any, **kwargs: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_DASHBOARD:
            command = [*command, f"--modules-to-load={','.join(MODULES)}"]
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            command = [word.replace("_agent_command=", f"_agent_command={AGENTS_BEHIND} ", 1) for word in command]
        return start_process(command, process_type, *args, **kwargs)

    services.start_ray_process = start_changed


def _leave_out_ray_client(scripts: ModuleType) -> None:
    # With this, `ray start` believes that the packages of Ray Client are missing and leaves it out.
    setattr(scripts, "get_ray_client_dependency_error", lambda: ImportError("Ray Client is switched off"))  # noqa: B010


def _drain_for_requests_only() -> None:
    drain = Node._drain_node_before_shutdown  # noqa: SLF001 there is no public one

    def drain_for_requests_only(node: Any) -> None:
        """Run in the handler of SIGTERM; when it returns, Ray kills what is left on this node."""
        if ray_constants.PROCESS_TYPE_RAYLET not in getattr(node, "all_processes", {}):
            return  # the node has not begun
        now = busy = time.monotonic()
        deadline = now + ray_constants.RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
        # It comes to no end, or to one too early, where the head does not answer.
        threading.Thread(target=drain, args=(node,), daemon=True).start()
        while now < deadline and now - busy < IDLE_SECONDS and not _is_drained(node):
            if _has_requests() or (_takes_requests() and _has_head()):
                busy = now
            time.sleep(1)
            now = time.monotonic()

    setattr(Node, "_drain_node_before_shutdown", drain_for_requests_only)  # noqa: B010


def _is_drained(node: Any) -> bool:
    """Whether Ray found that nothing runs here any more: the raylet ends itself then."""
    return any(kind == ray_constants.PROCESS_TYPE_RAYLET for kind, _ in node.dead_processes())


def _takes_requests() -> bool:
    """Whether Serve has not stopped the replica of this node yet: its successor does not run."""
    try:
        with _ask(HEALTH_ROUTE) as answer:
            return answer.status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False


def _has_head() -> bool:
    """Whether there is a head that may start a successor."""
    host, _, port = next(word.partition("=")[2] for word in sys.argv if word.startswith("--address=")).rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _has_requests() -> bool:
    """Whether the replica of this node has requests; one that does not answer may have some."""
    try:
        with _ask(LOAD_ROUTE) as answer:
            load = json.loads(answer.read())
        return bool(load["running"] or load["waiting"])
    except ConnectionRefusedError:
        return False  # there is no replica, or none yet
    except Exception:  # noqa: BLE001 nothing may end the wait before its time
        return True


def _ask(route: str) -> HTTPResponse:
    port = int(os.environ.get("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", REPLICA_PORT))
    connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    connection.request(
        "GET", route, headers={REPLICA_TOKEN_HEADER: os.environ[REPLICA_TOKEN_VARIABLE], "Connection": "close"}
    )
    return connection.getresponse()  # it is closed with its answer


if __name__ == "__main__":
    main()
