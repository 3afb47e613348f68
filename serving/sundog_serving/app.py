"""What Ray Serve imports: ``sundog_serving.app:build``.

It runs on the head, too, whose image has no engine: nothing here may import one.
"""

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application, Deployment

from sundog_serving.contract import DEPLOYMENT
from sundog_serving.replica import Replica
from sundog_serving.settings import Settings


def build(args: Mapping[str, Any]) -> Application:
    """Build the Serve application: one deployment, named ``engine``.

    How many replicas, their resources and their drain times come from the ``deployments`` entry of the Serve config.

    Args:
        args: As ARCHITECTURE.md says: ``engine``, ``model``, ``engine_args``, ``request_timeout_seconds``.

    Raises:
        EngineStartError: The arguments cannot be read.
    """
    Settings.from_args(args)
    engine: Deployment = serve.deployment(name=DEPLOYMENT)(Replica)
    return engine.bind(dict(args))
