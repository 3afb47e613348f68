"""LoRA adapters in vLLM: loaded into its engine, and known to its OpenAI app by their names.

Like `vllm_engine` it knows vLLM 0.29 to 0.32, and the same contract test holds for it.
"""

# ruff: noqa: PLC0415
import re
import tempfile
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sundog_serving import models
from sundog_serving.errors import AdapterError
from sundog_serving.settings import LoRASettings, Model

_WRAPPING: Final = re.compile(r"^Call to add_lora method failed: |^Worker failed with error '|', please check the .*$")


def set_arguments(args: Namespace, lora: LoRASettings) -> None:
    """Have vLLM reserve a place on the device for each adapter, and one more for the exchange of one.

    As many in the device's memory as in the host's: one that was swapped out would be read from its files again, in
    the midst of a step, and files that have gone since would end the engine.
    """
    args.enable_lora = True
    args.max_lora_rank = lora.max_rank
    args.max_loras = args.max_cpu_loras = slots(lora)


def slots(lora: LoRASettings) -> int:
    """How many adapters an engine holds at a time."""
    return lora.max_adapters + 1


class VLLMLoRA:
    """The adapters of a started vLLM."""

    def __init__(self, engine: Any, served: Any, lora: LoRASettings) -> None:
        """Take vLLM's engine and its `OpenAIServingModels`."""
        self.slots = slots(lora)
        self._engine = engine
        self._served = served
        self._requests: dict[int, Any] = {}
        self._last = 0
        self._folder = Path(tempfile.mkdtemp(prefix="sundog-adapters-"))

    async def fetch(self, adapter: Model) -> Path:
        """Find or download its files."""
        return await models.locate_adapter(adapter)

    async def load(self, name: str, path: Path) -> int:
        """Load it into the engine."""
        from vllm.lora.request import LoRARequest

        for stray in await self._engine.list_loras() - self._requests.keys():
            await self._engine.remove_lora(stray)  # a late request may have brought one back by itself
        self._last += 1
        handle = self._last
        # A path of its own each time: vLLM's prefix cache knows an adapter by name and path, and would mix what was
        # computed with the weights that were there before.
        link = self._folder / str(handle)
        link.symlink_to(path)
        request = LoRARequest(lora_name=name, lora_int_id=handle, lora_path=str(link))
        try:
            loaded = await self._engine.add_lora(request)
        except Exception as error:  # vLLM hands on whatever its worker raised
            with suppress(Exception):  # half of it may be there
                await self._engine.remove_lora(handle)
            raise AdapterError(_words(error).replace(str(link), str(path))) from error
        if not loaded:
            raise AdapterError("the engine did not take it, and gave no reason: see the replica's log")
        self._requests[handle] = request
        return handle

    def publish(self, name: str, handle: int) -> None:
        """Answer to requests by its name from now on."""
        self._served.lora_requests[name] = self._requests[handle]

    def withdraw(self, name: str) -> None:
        """Answer to new requests by its name with 404 from now on."""
        self._served.lora_requests.pop(name, None)

    def requests(self, handle: int) -> int:
        """How many requests use it."""
        states = self._engine.output_processor.request_states.values()
        return sum(state.lora_request is not None and state.lora_request.lora_int_id == handle for state in states)

    async def remove(self, handle: int) -> None:
        """Take it out of the engine."""
        await self._engine.remove_lora(handle)
        del self._requests[handle]
        (self._folder / str(handle)).unlink(missing_ok=True)


def _words(error: Exception) -> str:
    """Give vLLM's own words, without what its processes have wrapped around them."""
    line = " ".join(str(error).split()) or type(error).__name__
    while (bare := _WRAPPING.sub("", line)) != line:
        line = bare
    return line
