"""``make demo``: cluster, images, chart, one LLMDeployment, a question, another that scales, and how to go on."""

import asyncio
import shutil
from pathlib import Path

from rich.text import Text

from . import chart, jobs, volumes
from .board import Board, Step, elapsed
from .deploy import deploy, kubectl
from .errors import DemoError
from .forward import forward
from .kubernetes import Kubernetes, programs, remove
from .parts import PREPARED, PYTHON, Part, command, make
from .question import ask
from .settings import EXAMPLE, NAMESPACE, RESOURCE, Settings, require_port


async def up(settings: Settings) -> None:
    """Show Sundog from the beginning to an answer.

    Raises:
        DemoError: what is missing or went wrong, and what to do.
    """
    require_port(settings)
    async with Board() as board:
        kubernetes = await (_on_existing(board, settings) if settings.existing_kubeconfig else _on_own(board, settings))
        if not settings.existing_kubeconfig:
            await _forget_old_images(board, settings, kubernetes)
        await deploy(board, settings, kubernetes, example=EXAMPLE, name=RESOURCE)
        with board.step(f"kubectl port-forward service/{RESOURCE} {settings.forwarded}"):
            # Anew each time: the pod behind an old one may be gone.
            settings.forwarder.stop()
            require_port(settings)
            await forward(settings.forwarder, kubernetes, service=RESOURCE, port=settings.port)
    await ask(settings.url, model=RESOURCE, console=board.console)
    if settings.acts > 1:
        # The libraries that measure and draw take seconds to import, which only this needs.
        from .scaling import scale  # noqa: PLC0415

        await scale(settings, kubernetes, console=board.console)
    _how_to_go_on(board, settings, kubernetes)


async def _on_own(board: Board, settings: Settings) -> Kubernetes:
    """Bring up a cluster of our own, with everything that the example needs in it."""
    board.say(f"A real Kubernetes on this machine; all that is built is kept in {settings.folder.parent}", style="dim")

    async def offer_volumes(_step: Step, _log: Path) -> None:
        await volumes.offer(settings, programs(settings.kubeconfig, prefer_installed=False))

    async def install(step: Step, log: Path) -> None:
        await _install(
            step, log, programs(settings.kubeconfig, prefer_installed=False), chart.own_images(settings.kubeconfig)
        )

    parts = PREPARED | {
        "cluster": Part(
            "Kubernetes: API server, kubelet, containerd, DNS",
            command(PYTHON, "-m", "tests.cluster", "up", "--name", settings.name),
            needs=("programs",),
        ),
        "volumes": Part("Claims with the model and with vLLM", offer_volumes, needs=("cluster", "model")),
        "load": Part(
            "Images into the node",
            command(PYTHON, "-m", "tests.images", "load", "--cluster", settings.name),
            needs=("cluster", "images"),
        ),
        "chart": Part(f"helm upgrade --install {chart.RELEASE} {chart.CHART}", install, needs=("load",)),
    }
    await make(board, parts, ["chart", "volumes"], logs=settings.folder / "log")
    return programs(settings.kubeconfig, prefer_installed=False)


async def _on_existing(board: Board, settings: Settings) -> Kubernetes:
    """Use a person's own cluster: nothing is built for it but what is missing of kubectl and helm."""
    board.say(
        f"The cluster of {settings.kubeconfig}. It must be able to pull the chart's images (or those of "
        f"SUNDOG_OPERATOR_IMAGE, SUNDOG_SERVING_IMAGE and SUNDOG_ROUTER_IMAGE), and needs in namespace {NAMESPACE} "
        f"the claims {volumes.MODELS_CLAIM} and {volumes.ENVIRONMENT_CLAIM} (see {EXAMPLE}).",
        style="dim",
    )
    with board.step("kubectl and helm"):
        kubernetes = await asyncio.to_thread(programs, settings.kubeconfig, prefer_installed=True)
    for claim in (volumes.MODELS_CLAIM, volumes.ENVIRONMENT_CLAIM):
        if await kubernetes.read("persistentvolumeclaim", claim, namespace=NAMESPACE) is None:
            raise DemoError(
                f"The cluster of {settings.kubeconfig} has no claim {claim} in namespace {NAMESPACE}, "
                f"which {EXAMPLE} mounts: its first lines say what must be in it."
            )
    with board.step(f"helm upgrade --install {chart.RELEASE} {chart.CHART}") as step:
        await _install(step, settings.log("chart"), kubernetes, chart.chosen_images())
    return kubernetes


async def _install(step: Step, log: Path, kubernetes: Kubernetes, images: chart.Images) -> None:
    try:
        await jobs.run(step, chart.upgrade(kubernetes, images), log=log, environment=kubernetes.environment)
    except DemoError as error:
        operator = f"{kubectl(kubernetes)} -n {chart.RELEASE_NAMESPACE} logs deploy/{chart.OPERATOR}"
        raise DemoError(f"{error}\n  What the operator says: {operator}") from None


async def _forget_old_images(board: Board, settings: Settings, kubernetes: Kubernetes) -> None:
    """Begin anew when the images of head, workers or router changed: their name did not, so nothing else would."""
    record = settings.folder / "workload-images"
    key = chart.own_images(settings.kubeconfig).workload_key
    if record.exists() and record.read_text() != key:
        with board.step("Old replicas away: there are new images"):
            await remove(kubernetes, RESOURCE, namespace=NAMESPACE)
    record.write_text(key)


def _how_to_go_on(board: Board, settings: Settings, kubernetes: Kubernetes) -> None:
    folder = "" if shutil.which("kubectl") else f"export PATH={kubernetes.kubectl.parent}:$PATH\n  "
    body = f'{{"model": "{RESOURCE}", "messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'
    board.console.print(Text(f"\nIn {elapsed(board.seconds)}. How to go on:\n", style="bold"))
    board.say(
        f"""  export KUBECONFIG={kubernetes.kubeconfig}
  {folder}kubectl get llmdeploy
  kubectl scale llmdeploy/{RESOURCE} --replicas=2
  curl {settings.url}/chat/completions -H 'content-type: application/json' -d '{body}'

The API is at {settings.url} until you run: {settings.command("demo-down")}"""
    )
