"""Lets a replica take its port although connections of an earlier one linger on it.

Ray 2.60 binds a replica's port without SO_REUSEADDR. For a minute after a replica has ended with open connections, the
kernel keeps them in TIME_WAIT, and binding fails; a restarted container is still in the pod's network, so that does not
help. Ray then blocks the port on that node, which has no other, and after three tries, each of which loads the model
first, gives up the deployment.

Ray has no setting for it, so two of its private names are replaced in the replica's process. Ray is pinned exactly, and
a test kills a replica with open connections.
"""

import socket
from typing import Any

from ray.serve._private import http_util
from ray.serve._private import replica as ray_replica


def _reuse_address(listener: socket.socket) -> bool:
    # Not SO_REUSEPORT, which Ray sets here for its proxies: two living replicas on one port must stay an error.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return True


def reuse_address() -> None:
    """Make the server of this process's replica set SO_REUSEADDR; to be called before it starts."""
    start = http_util.start_asgi_http_server

    async def start_reusing(*args: Any, **kwargs: Any) -> Any:
        return await start(*args, **{**kwargs, "enable_so_reuseport": True})

    setattr(http_util, "set_socket_reuse_port", _reuse_address)  # noqa: B010
    setattr(ray_replica, "start_asgi_http_server", start_reusing)  # noqa: B010
