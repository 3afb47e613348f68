"""Running buildah on a store of its own: nothing of the user's images is touched, and no mount is left behind."""

import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.progress import Task

from .errors import ImageError

STEP = re.compile(r"STEP (?P<done>\d+)/(?P<total>\d+): (?P<text>.*)")
KEPT_LINES = 400
# Lines that say that something was done, or failed, but not what went wrong.
ECHOES = re.compile(r"(?i)--> |(error:? )?(building|committing|running|while running|exit status|subprocess exited)")


class Buildah:
    """A store of images and layers in one folder, used by one process at a time: the caller holds a lock.

    Args:
        folder: of the store; made when needed.
        lock: file descriptor of the held lock. buildah inherits it: the lock is held until buildah, too, has ended,
            even where its caller was killed.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._temporary = folder / "tmp"
        for leftover in (self._temporary, folder / "run"):
            shutil.rmtree(leftover, ignore_errors=True)
        self._temporary.mkdir(parents=True)

    def build(self, dockerfile: Path, *, context: Path, tag: str, base: str | None, task: Task) -> None:
        """Build an image from a Dockerfile.

        Args:
            dockerfile: path of the Dockerfile.
            context: what it may copy from.
            tag: what the image is called.
            base: value of the build argument BASE; None where the Dockerfile has none.
            task: is told of each step.

        Raises:
            ImageError: a step failed; the message carries what it said.
        """
        arguments = ["--layers", "--isolation=chroot", f"--file={dockerfile}", f"--tag={tag}"]
        if base:
            arguments.append(f"--build-arg=BASE={base}")
        if certificates := _certificates():
            arguments += [f"--secret=id=ca,src={certificates}", "--build-arg=PIP_CERT=/run/secrets/ca"]
        # Layers of earlier contents stay in the store until nothing refers to them.
        self._run("build", *arguments, str(context), task=task)

    def export(self, tag: str, archive: Path) -> None:
        """Write an image as ``docker save`` would; its layers are uncompressed, which is quicker here and at import."""
        self._run("push", "--quiet", tag, f"docker-archive:{archive}:{tag}")

    def has(self, tag: str) -> bool:
        """Tell whether the store has an image of this name."""
        return tag in self._run("images", "--noheading", "--format={{.Name}}:{{.Tag}}").split()

    def prune(self) -> None:
        """Drop what killed builds left, and the layers that no named image needs."""
        self._run("rm", "--all")
        self._run("rmi", "--prune", "--force")

    def _run(self, *arguments: str, task: Task | None = None) -> str:
        command = [
            # A mount namespace of its own: its mounts vanish with it, however it ends.
            *("unshare", "--mount", "--propagation=private"),
            *("buildah", f"--root={self._folder}", f"--runroot={self._folder / 'run'}", "--storage-driver=overlay"),
            *arguments,
        ]
        lines: deque[str] = deque(maxlen=KEPT_LINES)
        with subprocess.Popen(
            command,
            env={**os.environ, "TMPDIR": str(self._temporary)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=[self._lock],
        ) as process:
            try:
                for line in process.stdout or ():
                    lines.append(line.strip())
                    if task and (step := STEP.match(line)):
                        text = step["text"][:60]
                        task.update(done=int(step["done"]) - 1, total=int(step["total"]), detail=text)
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise ImageError(f"buildah {arguments[0]} failed: {cause(lines)}")
        return "\n".join(lines)


def cause(lines: Sequence[str]) -> str:
    """Find what went wrong in the output of a build: its own last words before buildah's."""
    telling = [line for line in lines if line and not STEP.match(line) and not ECHOES.match(line)]
    return " / ".join(telling[-3:]) or (lines[-1] if lines else "it says nothing")


def _certificates() -> str | None:
    """Find the certificate authorities that this machine trusts: a proxy that re-signs TLS has its own among them."""
    candidates = (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt")
    return next((path for path in candidates if path and Path(path).is_file()), None)
