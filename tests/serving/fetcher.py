"""Fetches models as a replica does: one JSON document per line in, one out.

A process of its own, because the hub library reads its settings from the environment when it is imported.
"""

import asyncio
import json
import os
import sys

from sundog_serving import models
from sundog_serving.errors import EngineStartError
from sundog_serving.settings import Model


def fetch(wanted: dict[str, str | None]) -> dict[str, str]:
    for name in ("HF_TOKEN", "HF_HOME"):
        os.environ.pop(name, None)
        if value := wanted.get(name):
            os.environ[name] = value
    model = Model(uri=wanted["uri"] or "", path=None, revision=wanted.get("revision"), name="m")
    locate = models.locate_adapter(model) if wanted.get("adapter") else models.locate(model, weights=True)
    try:
        return {"path": str(asyncio.run(locate))}
    except EngineStartError as error:
        return {"reason": error.reason.value, "sentence": error.sentence}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(fetch(json.loads(line))), flush=True)
