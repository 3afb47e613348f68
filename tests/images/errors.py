"""The one exception of this package."""

from tests.cluster.errors import ClusterError


class ImageError(ClusterError):
    """What went wrong with an image, in one sentence with its cause and its cure."""
