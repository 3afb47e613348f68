"""A real Kubernetes on one machine, without Docker: built from source, run as processes.

    cluster = Cluster.up("sundog", level=Level.CONTROL_PLANE)
    cluster.kubectl("get", "namespaces")
    cluster.down()

``python -m tests.cluster --help`` does the same from a shell.
"""

import os

from .builds import build, tool
from .cluster import Cluster, down
from .errors import ClusterError
from .plan import Level
from .versions import KUBERNETES_VERSION

__all__ = ["KUBERNETES_VERSION", "Cluster", "ClusterError", "Level", "build", "down", "tool", "use_existing"]


def use_existing() -> bool:
    """Tell whether the environment asks to test on the cluster of ``$KUBECONFIG``."""
    return os.environ.get("SUNDOG_USE_EXISTING_CLUSTER") == "1"
