"""The command line: ``python -m tests.cluster up|down|status|build|load-image|kubeconfig|packages``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import builds, cluster, packages
from .components import Components, names
from .errors import ClusterError
from .plan import Level, Plan, every_plan
from .progress import default_progress
from .versions import KUBERNETES_VERSION


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    made = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    def named(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = command(name, run, text)
        added.add_argument("--name", default="sundog", help="name of the cluster (default: sundog)")
        return added

    def levelled(added: argparse.ArgumentParser, text: str) -> None:
        added.add_argument("--level", type=Level, choices=list(Level), default=Level.NODE, help=text)

    up = named("up", _up, "Bring a cluster up, or what is missing of it.")
    levelled(up, "control plane alone, or a full node (needs root)")
    up.add_argument("--kubernetes-version", default=KUBERNETES_VERSION, metavar="1.x.y")
    up.add_argument("--kwok", action="store_true", help="also play fake nodes")
    up.add_argument("--api-port", type=int, help="port of the API server (default: a free one)")
    down = named("down", _down, "Take a cluster down without a trace.")
    down.add_argument("--keep-logs", action="store_true", help="leave the log folder")
    command("status", _status, "Show all clusters.")
    build = command("build", _build, "Build programs that are not built yet.")
    build.add_argument("programs", nargs="*", default=builds.EVERYTHING, metavar="program", help="default: all")
    build.add_argument("--kubernetes-version", default=KUBERNETES_VERSION, metavar="1.x.y")
    load = named("load-image", _load_image, "Import an image archive into the node.")
    load.add_argument("archive", type=Path)
    named("kubeconfig", _kubeconfig, "Print the path of a cluster's kubeconfig.")
    install = command("packages", _packages, "Install missing Debian packages (needs root).")
    levelled(install, "for which level")
    install.add_argument("--browser", action="store_true", help="only a browser, for tests of the operator's page")
    install.add_argument("--no-images", action="store_true", help="leave out what building images takes")
    return made


def _up(asked: argparse.Namespace) -> None:
    made = cluster.Cluster.up(
        asked.name,
        level=asked.level,
        kubernetes_version=asked.kubernetes_version,
        kwok=asked.kwok,
        api_port=asked.api_port,
    )
    print(f"Cluster {asked.name} is up at {made.plan.api_url}\nexport KUBECONFIG={made.kubeconfig}")


def _down(asked: argparse.Namespace) -> None:
    was = cluster.down(asked.name, keep_logs=asked.keep_logs)
    print(f"Cluster {asked.name} is down." if was else f"There is no cluster {asked.name}.")


def _status(_: argparse.Namespace) -> None:
    table = Table("name", "level", "version", "API", "pid", "components", "kubeconfig", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"  # a cut-off path or address is of no use
    for plan in every_plan():
        own = Components(plan, {})
        leader = own.daemon("node" if plan.level is Level.NODE else "kube-apiserver").pid
        words = (plan.name, plan.level, plan.kubernetes_version, plan.api_url, str(leader or "-"), _states(own))
        table.add_row(*words, str(plan.kubeconfig))
    if not table.row_count:
        print("There is no cluster.")
        return
    # In a pipe the width is unknown: do not fold at all.
    Console(width=None if sys.stdout.isatty() else 250).print(table)


def _states(own: Components) -> str:
    """Tell how many components are up, and name those that are not."""
    daemons = [own.daemon(name) for name in names(own.plan)]
    paused = [daemon.name for daemon in daemons if daemon.paused]
    stopped = [daemon.name for daemon in daemons if not daemon.running]
    if len(stopped) == len(daemons):
        return "down"
    up = f"{len(daemons) - len(paused) - len(stopped)} of {len(daemons)} up"
    return "; ".join(
        [
            up,
            *(["paused: " + ", ".join(paused)] if paused else []),
            *(["down: " + ", ".join(stopped)] if stopped else []),
        ]
    )


def _build(asked: argparse.Namespace) -> None:
    for name, path in builds.build(programs=asked.programs, kubernetes_version=asked.kubernetes_version).items():
        print(f"{name}\t{path}")


def _running(name: str) -> cluster.Cluster:
    plan = Plan.load(name)
    if plan is None:
        raise ClusterError(f"There is no cluster {name}: bring it up with 'python -m tests.cluster up --name {name}'.")
    programs = builds.build(programs=["kubectl", "ctr"], kubernetes_version=plan.kubernetes_version)
    return cluster.Cluster(kubeconfig=plan.kubeconfig, components=Components(plan, programs))


def _load_image(asked: argparse.Namespace) -> None:
    for image in _running(asked.name).load_image(asked.archive):
        print(image)


def _kubeconfig(asked: argparse.Namespace) -> None:
    plan = Plan.load(asked.name)
    if plan is None:
        raise ClusterError(f"There is no cluster {asked.name}: bring it up with 'python -m tests.cluster up'.")
    print(plan.kubeconfig)


def _packages(asked: argparse.Namespace) -> None:
    of_level = {**packages.OF_LEVEL[asked.level], **({} if asked.no_images else packages.IMAGES)}
    installed = packages.install(default_progress(), packages.BROWSER if asked.browser else of_level)
    if not (asked.no_images or asked.browser):
        packages.unpacked("prometheus")  # what the tests of boards and alerts ask
    print(f"Installed {' '.join(installed)}." if installed else "All packages are there.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a failure is told in one sentence."""
    asked = parser().parse_args(arguments)
    try:
        asked.run(asked)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
