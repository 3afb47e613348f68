"""The images that end-to-end tests run: the project's own Dockerfiles on a base made from Debian's packages.

    archives = images()
    cluster.load_image(archives["operator"])

No registry is needed. The serving image has no vLLM (6.5 GB): the fake engine needs Ray alone, and tests mount the
environment of ``tests.models`` where they want vLLM itself.
"""

from .errors import ImageError
from .making import images
from .recipes import TAGS

__all__ = ["TAGS", "ImageError", "images"]
