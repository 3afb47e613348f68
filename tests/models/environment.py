"""The vLLM-on-CPU environment: vLLM, Ray and torch in one virtual environment that also works when mounted into a pod.

The index has torch built for CUDA only; that build works on a CPU. It is 6.5 GB, so there is exactly one copy of it, in
the cache, and it is mounted into pods instead of being put into an image. It is made with Debian's own interpreter,
because the pods' image is Debian of the same release and finds that interpreter at the same path.
"""

import subprocess
from pathlib import Path

from tests.models import name_wheel
from tests.models.store import NotMadeError, cache_root, console, key, made

HERE = Path(__file__).parent
LOCK = HERE / "environment.lock"
INTERPRETER = Path("/usr/bin/python3")
UV = cache_root() / "uv" / "bin" / "uv"
NEEDS_BYTES = 14_000_000_000  # 6.5 GB installed, and as much again in uv's cache where that is on another disk

# --compile-bytecode: without it each start of vLLM is three times slower, and a read-only mount could never keep the
# bytecode. --relocatable: the folder is renamed once it is complete, and pods mount it wherever they like.
_VENV = ("venv", "--quiet", "--relocatable", "--python", str(INTERPRETER))
_INSTALL = ("pip", "install", "--compile-bytecode", "--no-deps")


def environment() -> Path:
    """Return the folder of the vLLM-on-CPU environment (its interpreter is ``bin/python``), made first where it is
    missing.

    Raises:
        NotMadeError: uv or Debian's Python is missing, the disk has no room, or the installation failed.
    """
    for tool, cure in ((UV, "run: make environment"), (INTERPRETER, "run: apt-get install python3 python3-venv")):
        if not tool.exists():
            raise NotMadeError(f"{tool} is missing: {cure}")
    release = _python_release()
    place = cache_root() / "vllm" / key(LOCK.read_text(), name_wheel.VERSION, release, *_VENV, *_INSTALL)
    return made("vLLM-on-CPU environment (6.5 GB)", place, needs_bytes=NEEDS_BYTES, make=_make)


def _make(folder: Path) -> None:
    _uv(*_VENV, str(folder))
    python = str(folder / "bin" / "python")
    _uv(*_INSTALL, "--python", python, "--require-hashes", "--requirement", str(LOCK))
    wheel = name_wheel.write(folder)
    _uv(*_INSTALL, "--python", python, str(wheel))
    wheel.unlink()
    console.print("trying it: importing vllm and ray")
    _run([python, "-c", "import ray.serve, vllm; print(f'vllm {vllm.__version__}, ray {ray.__version__}')"])


def _python_release() -> str:
    shown = subprocess.run([INTERPRETER, "--version"], check=True, capture_output=True, text=True)
    return shown.stdout.strip().rpartition(".")[0]  # bytecode and wheels depend on 3.11, not on 3.11.2


def _uv(*arguments: str) -> None:
    _run([str(UV), *arguments])


def _run(command: list[str]) -> None:
    # uv draws its own progress on a terminal and prints plain lines elsewhere; it must not mix with stdout, which
    # carries the path.
    try:
        subprocess.run(command, check=True, stdout=console.file)
    except subprocess.CalledProcessError as error:
        raise NotMadeError(
            f"{' '.join(command[:3])} … failed with exit code {error.returncode}; its own words stand above"
        ) from error
