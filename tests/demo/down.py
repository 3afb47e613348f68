"""``make demo-down``: take away what the demo started; what was built stays in the cache for the next time."""

from . import chart, jobs
from .board import Board
from .kubernetes import programs
from .parts import PYTHON
from .settings import EXAMPLE, NAMESPACE, RESOURCE, ROOT, SCALED_EXAMPLE, Settings


async def down(settings: Settings) -> None:
    """Take the demo away.

    Raises:
        DemoError: something would not go.
    """
    async with Board() as board:
        with board.step("Port-forward"):
            settings.forwarder.stop()
        if settings.existing_kubeconfig:
            await _leave_existing(board, settings)
            return
        with board.step(f"Cluster {settings.name}") as step:
            command = [PYTHON, "-m", "tests.cluster", "down", "--name", settings.name]
            await jobs.run(step, command, log=settings.log("cluster-down"))
        board.say(f"Gone. What was built is kept in {settings.folder.parent}; it may be deleted at any time.")


async def _leave_existing(board: Board, settings: Settings) -> None:
    kubernetes = programs(settings.kubeconfig, prefer_installed=True)
    for example in (SCALED_EXAMPLE, EXAMPLE):  # the first is there when a demo was interrupted
        with board.step(f"kubectl delete -f {example}") as step:
            where = f"--namespace={NAMESPACE}", f"--filename={ROOT / example}"
            delete = [str(kubernetes.kubectl), "delete", *where, "--ignore-not-found"]
            await jobs.run(step, delete, log=settings.log("delete"), environment=kubernetes.environment)
    with board.step(f"helm uninstall {chart.RELEASE}") as step:
        uninstall = chart.uninstall(kubernetes)
        await jobs.run(step, uninstall, log=settings.log("uninstall"), environment=kubernetes.environment)
    board.say(
        f"Gone from the cluster of {settings.kubeconfig}: {RESOURCE} and Sundog. Its CRD stays, as Helm's own do."
    )
