"""Volumes: a pool of folders for claims that name no volume, and claims for given folders."""

import shutil
from pathlib import Path
from typing import Any

from .plan import Plan

POOL_LABEL = "sundog-test-cluster/pool"
POOL_SIZE = 40
CAPACITY = "1Gi"
STORAGE_CLASS = "local"


def storage_class() -> dict[str, Any]:
    """Describe the default class; its volumes are made beforehand, so that a claim binds at once."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Retain",
    }


def pool(plan: Plan) -> list[dict[str, Any]]:
    """Make the folders of the pool, writable by every user as pods do not run as root, and describe their volumes."""
    volumes = []
    for number in range(POOL_SIZE):
        name = f"local-{number:02d}"
        folder = pool_folder(plan, name)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        volumes.append(_volume(name, folder, labels={POOL_LABEL: "true"}, storage_class=STORAGE_CLASS))
    return volumes


def pool_folder(plan: Plan, name: str) -> Path:
    """Give the folder behind a volume of the pool."""
    return plan.folder / "volumes" / name


def empty(folder: Path) -> None:
    """Delete what a released claim left behind."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def host_path_claim(*, name: str, path: Path, namespace: str, claim: str, read_only: bool) -> list[dict[str, Any]]:
    """Describe a volume for a folder of the host and a claim bound to it."""
    mode = "ReadOnlyMany" if read_only else "ReadWriteMany"
    volume = _volume(name, path, labels={}, storage_class="", mode=mode)
    volume["spec"]["claimRef"] = {"namespace": namespace, "name": claim}
    return [
        volume,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": {
                "accessModes": [mode],
                "storageClassName": "",
                "volumeName": name,
                "resources": {"requests": {"storage": CAPACITY}},
            },
        },
    ]


def _volume(
    name: str, folder: Path, *, labels: dict[str, str], storage_class: str, mode: str = "ReadWriteMany"
) -> dict[str, Any]:
    modes = [mode] if not storage_class else ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "capacity": {"storage": CAPACITY},
            "accessModes": modes,
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": storage_class,
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }
