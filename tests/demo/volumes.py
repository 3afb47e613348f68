"""The claims of ``examples/smollm2.yaml``: the folder of models, and the environment with vLLM."""

import os
import shutil
from pathlib import Path

from tests.cluster import Cluster, ClusterError
from tests.models import environment, model

from .errors import DemoError
from .kubernetes import Kubernetes, remove
from .settings import MODEL_FOLDER, NAMESPACE, RESOURCE, Settings

MODELS_CLAIM = "models"
ENVIRONMENT_CLAIM = "vllm-environment"
# Of volumes, which belong to no namespace.
VOLUME_PREFIX = "demo-"


async def offer(settings: Settings, kubernetes: Kubernetes) -> None:
    """Offer both folders as claims, replacing claims for folders that were made anew since.

    Raises:
        DemoError: the cluster refused.
    """
    wanted = {MODELS_CLAIM: _models(settings, model("smollm2")), ENVIRONMENT_CLAIM: environment()}
    for claim, path in wanted.items():
        volume = f"{VOLUME_PREFIX}{claim}"
        await _forget_other_path(kubernetes, volume=volume, claim=claim, path=path)
        try:
            Cluster.existing(kubernetes.kubeconfig).host_path_volume(volume, path, NAMESPACE, claim, read_only=True)
        except ClusterError as error:
            raise DemoError(str(error)) from None


def _models(settings: Settings, made: Path) -> Path:
    """Lay the model out under a name for people, by hard links: a claim has no use for links that lead out of it."""
    models, source = settings.folder / "models", settings.folder / "models.source"
    place = models / MODEL_FOLDER
    if not place.is_dir() or not source.exists() or source.read_text() != str(made):
        source.unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        models.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, place, copy_function=_link)
        source.write_text(str(made))
    return models


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


async def _forget_other_path(kubernetes: Kubernetes, *, volume: str, claim: str, path: Path) -> None:
    """Delete claim and volume if they are for another path: neither can be changed."""
    found = await kubernetes.read("persistentvolume", volume, namespace=NAMESPACE)
    if found is None or found["spec"]["hostPath"]["path"] == str(path):
        return
    await remove(kubernetes, RESOURCE, namespace=NAMESPACE)  # its pods hold the claim
    for kind, name in (("persistentvolumeclaim", claim), ("persistentvolume", volume)):
        await kubernetes.run("delete", kind, name, f"--namespace={NAMESPACE}", "--ignore-not-found")
