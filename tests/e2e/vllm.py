"""vLLM on a CPU in pods: its environment and models as claims of a namespace, and the spec that uses them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.cluster.folders import cache
from tests.e2e.site import SMALL_HEAD, Site
from tests.models import environment, model

ENVIRONMENT_PATH = "/opt/vllm"


def offer(site: Site) -> Path:
    """Make the claims `vllm-environment` and `models`; the latter holds tiny models, and folders that are none.

    Returns:
        The folder of models on the host.
    """
    models = _models()
    site.cluster.host_path_volume(
        f"{site.namespace}-vllm", environment(), site.namespace, "vllm-environment", read_only=True
    )
    site.cluster.host_path_volume(f"{site.namespace}-models", models, site.namespace, "models", read_only=True)
    return models


def spec(path: str, *, args: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The spec of a model in the claim `models`, served by vLLM on a CPU."""
    path_variable = f"{ENVIRONMENT_PATH}/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"
    environment_variables = {
        "PATH": path_variable,
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
    }
    engine = {
        "args": {
            "dtype": "float32",
            "enforce-eager": True,
            "kv-cache-memory-bytes": "64M",
            "max-model-len": 512,
            "max-num-seqs": 32,
            **(args or {}),
        },
        "env": [{"name": name, "value": value} for name, value in environment_variables.items()],
    }
    mount = {"name": "vllm", "mountPath": ENVIRONMENT_PATH, "readOnly": True}
    volume = {"name": "vllm", "persistentVolumeClaim": {"claimName": "vllm-environment", "readOnly": True}}
    return {
        "model": {"uri": f"pvc://models/{path}"},
        "engine": engine,
        "ray": SMALL_HEAD,
        "podTemplate": {
            "spec": {"containers": [{"name": "engine", "volumeMounts": [mount]}], "volumes": [volume]},
        },
        "requestTimeoutSeconds": 120,
        **more,
    }


def _models() -> Path:
    """Lay out tiny models under names for people, beside folders that no engine can start with."""
    place = cache() / "e2e-models"
    shutil.rmtree(place, ignore_errors=True)
    for name in ("tiny", "tiny-embedding"):
        shutil.copytree(model(name), place / name)
    (place / "empty").mkdir()
    (place / "text").mkdir()
    (place / "text" / "README.md").write_text("no model here\n")
    shutil.copytree(model("tiny"), place / "unreadable")
    for weights in (place / "unreadable").glob("*.safetensors"):
        weights.chmod(0o600)  # of root; the pod runs as another user
    return place
