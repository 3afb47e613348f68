"""vLLM as an engine: its own engine, and its own OpenAI app with every route, stream and metric.

This module knows vLLM 0.29 to 0.32; `CONTRACT` in tests/serving/vllm_contract.py lists what it touches, and a test
compares that with the vLLM at hand. Whatever another version needs belongs here and nowhere else. vLLM is imported only
inside functions: the head's image has none, and settings that vLLM reads at import must be made first.
"""

# ruff: noqa: PLC0415
import asyncio
import importlib.metadata
import logging
import os
import time
from argparse import Namespace
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from typing import Any, Final

import ray
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from sundog_serving import arguments, log, models, vllm_lora
from sundog_serving.cgroup import oom_kills
from sundog_serving.contract import Reason
from sundog_serving.engine import ASGIApp, Description, Load, LoRA
from sundog_serving.errors import EngineDeadError, EngineStartError
from sundog_serving.output import Output
from sundog_serving.rate import Rate
from sundog_serving.root_cause import explain
from sundog_serving.settings import Settings

logger = logging.getLogger("sundog.vllm")

SUPPORTED: Final = SpecifierSet(">=0.29,<0.33")
_SUPPORTED_IN_WORDS: Final = "0.29 to 0.32"
STALL_SECONDS: Final = {"cpu": 120.0}
"""On a CPU a single step with a long prompt takes a minute and more."""
DEFAULT_STALL_SECONDS: Final = 20.0

_EXIT_CODE_SECONDS: Final = 5.0

# What Sundog sets itself, and where a person says it.
RESERVED: Final = {
    "model": "say it in spec.model.uri",
    "revision": "say it in spec.model.revision",
    "served-model-name": "say it in spec.model.name",
    "hf-token": "say it in spec.model.tokenSecretRef",
    "config": "write the arguments themselves into spec.engine.args",
    "headless": "each replica is one engine with its own server",
    "grpc": "replicas speak HTTP",
    "grpc-port": "replicas speak HTTP",
    "api-server-count": "say spec.replicas",
    **dict.fromkeys(
        ("enable-lora", "lora-modules", "max-lora-rank", "max-loras", "max-cpu-loras"), "say it in spec.model.lora"
    ),
    **dict.fromkeys(("host", "port", "uds", "root-path"), "the router finds replicas where Sundog puts them"),
    **dict.fromkeys(
        ("ssl-keyfile", "ssl-certfile", "ssl-ca-certs", "ssl-cert-reqs", "ssl-ciphers", "enable-ssl-refresh"),
        "TLS ends at the router",
    ),
    "api-key": "a key is the business of a gateway before the Service",
    "middleware": "it would be code from outside",
}

# Load formats under which a folder without weights is right.
_WITHOUT_WEIGHTS: Final = frozenset({"dummy", "tensorizer", "runai_streamer", "runai_streamer_sharded"})

_ENVIRONMENT: Final = {
    # vLLM's logging.config closes the handlers of others, Serve's among them. A Serve controller that comes back (a new
    # head pod) and finds a replica without its log handler stops that replica (Ray 2.60).
    "VLLM_CONFIGURE_LOGGING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    # This process has threads; forking it could hang the child.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # One request may ask for so many answers, as at OpenAI; by default 16,384, which keeps an engine busy for minutes.
    "VLLM_MAX_N_SEQUENCES": "128",
}


async def start(settings: Settings) -> "VLLMEngine":
    """Load the model and start vLLM.

    Raises:
        EngineStartError: With the cause, also where it happened in one of the engine's own processes.
    """
    version = supported_version()
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    log.configure("vllm")
    witness = Witness(Output.tap(), oom_kills())
    # Names and values first: a wrong one is told at once, not after a download.
    args = await asyncio.to_thread(parse_arguments, settings, version)
    model = await models.locate(settings.model, weights=getattr(args, "load_format", "auto") not in _WITHOUT_WEIGHTS)
    args.model = str(model)
    steps = Steps()
    # In a thread, although it takes the loop's time anyway in parts: a replica that is told to stop while it loads must
    # hear it.
    try:
        config = await asyncio.to_thread(_configure, args)
    except EngineStartError:
        raise
    except Exception as error:  # whatever vLLM's checks of its configuration raise
        logger.exception("vLLM refused its configuration")
        raise witness.explain(error, fallback=_blame(error)) from error
    engine: Any = None
    try:
        engine = await asyncio.to_thread(_launch, config, args, steps)
        return await _with_app(engine, args, settings, version=version, steps=steps, witness=witness)
    except Exception as error:  # whatever vLLM raises while it loads a model
        logger.exception("vLLM did not start")
        if engine is not None:
            await asyncio.to_thread(engine.shutdown)
        raise witness.explain(error) from error


@dataclass(frozen=True, slots=True)
class Witness:
    """What was seen of the engine's processes from before its start."""

    output: Output
    oom_kills_before: int

    def explain(self, error: Exception, *, fallback: Reason = Reason.ENGINE_START_FAILED) -> EngineStartError:
        """Say why the engine did not start, or died."""
        killed = oom_kills() > self.oom_kills_before
        return explain(error, self.output.lines(), oom_killed=killed, fallback=fallback)


def supported_version() -> str:
    """Return the version of the vLLM that is installed.

    Raises:
        EngineStartError: EngineVersionUnsupported: there is none, or it is not one of those known here.
    """
    try:
        version = importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError as error:
        raise EngineStartError(
            Reason.ENGINE_VERSION_UNSUPPORTED,
            f"this image has no vLLM: use a serving image with vLLM {_SUPPORTED_IN_WORDS}, or spec.engine.name fake",
        ) from error
    if not SUPPORTED.contains(Version(version).base_version):
        raise EngineStartError(
            Reason.ENGINE_VERSION_UNSUPPORTED,
            f"this image has vLLM {version}, and this release of Sundog works with {_SUPPORTED_IN_WORDS}: "
            "set spec.engine.image to an image with one of these, or use another release of Sundog",
        )
    return version


def parse_arguments(settings: Settings, version: str) -> Namespace:
    """Check the engine's arguments against vLLM's own command line.

    Raises:
        EngineStartError: EngineArgumentInvalid, naming the argument.
    """
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser(allow_abbrev=False))
    engine = f"vLLM {version}"
    args = arguments.parse(parser, settings.engine_args, reserved=RESERVED, engine=engine)
    args.served_model_name = [settings.model.name]
    args.disable_fastapi_docs = True
    if settings.lora:
        vllm_lora.set_arguments(args, settings.lora)
    try:
        validate_parsed_serve_args(args)
    except (TypeError, ValueError) as error:  # what it raises for arguments that do not go together
        raise EngineStartError(
            Reason.ENGINE_ARGUMENT_INVALID, f"spec.engine.args: {str(error).removeprefix('Error: ')}"
        ) from error
    return args


def _configure(args: Namespace) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers import cli_args
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager
    from vllm.usage.usage_lib import UsageContext

    if args.tool_parser_plugin:
        ToolParserManager.import_tool_parser(args.tool_parser_plugin)
    if args.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)
    engine_args = AsyncEngineArgs.from_cli_args(args)
    if propagate := getattr(cli_args, "propagate_flash_late_interaction", None):  # since 0.32
        propagate(args, engine_args)
    return engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)


def _blame(error: Exception) -> Reason:
    """The model has passed the preflight: what the configuration refuses by its checks is an argument."""
    return Reason.ENGINE_ARGUMENT_INVALID if isinstance(error, (ValueError, TypeError)) else Reason.ENGINE_START_FAILED


def _launch(config: Any, args: Namespace, steps: "Steps") -> Any:
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.metrics.loggers import PrometheusStatLogger
    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

    _wait_for_exit_codes()
    return AsyncLLM.from_vllm_config(
        config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        # The engine's /metrics asks for the replica's token, which a Prometheus does not have; by Ray they come out of
        # the node's metrics port. vLLM leaves its own logger out where there is another of its kind, so name both; it
        # comes last, since each of them takes the metrics of the one before out of /metrics.
        stat_loggers=[
            partial(StepLogger, steps),
            *((RayPrometheusStatLogger,) if ray.is_initialized() else ()),
            PrometheusStatLogger,
        ],
        enable_log_requests=args.enable_log_requests,
        aggregate_engine_logging=args.aggregate_engine_logging,
        disable_log_stats=args.disable_log_stats,
    )


def _wait_for_exit_codes() -> None:
    """Let vLLM say how a process of it ended while it started.

    vLLM hears of the end by a pipe that closes a moment before the kernel has the exit code. An engine that was killed
    for its memory then has none, and the message would name no cause.
    """
    from vllm.v1.engine.utils import CoreEngineProcManager

    finished_procs = CoreEngineProcManager.finished_procs

    def finished_procs_with_code(manager: Any) -> Any:
        for process in manager.processes:
            if wait([process.sentinel], timeout=0):
                process.join(_EXIT_CODE_SECONDS)
        return finished_procs(manager)

    setattr(CoreEngineProcManager, "finished_procs", finished_procs_with_code)  # noqa: B010


async def _with_app(
    engine: Any, args: Namespace, settings: Settings, *, version: str, steps: "Steps", witness: "Witness"
) -> "VLLMEngine":
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.platforms import current_platform

    await engine.reset_mm_cache()  # dummy inputs of the profiling run
    tasks = await engine.get_supported_tasks()
    app = build_app(args, supported_tasks=tasks, model_config=engine.model_config)
    await init_app_state(engine, app.state, args, tasks)
    app.state.server = Server()
    device = current_platform.device_type
    description = Description(
        engine="vllm",
        version=version,
        device=device,
        model=settings.model.name,
        tasks=tuple(str(task) for task in tasks),
    )
    lora = vllm_lora.VLLMLoRA(engine, app.state.openai_serving_models, settings.lora) if settings.lora else None
    return VLLMEngine(engine=engine, app=app, description=description, steps=steps, witness=witness, lora=lora)


@dataclass(slots=True)
class Server:
    """Stands for the HTTP server, which vLLM's error handlers ask to end when the engine has died.

    Here Serve's health check sees to that.
    """

    should_exit: bool = False


@dataclass(slots=True)
class Steps:
    """What vLLM tells after each step of its scheduler."""

    count: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    generation_rate: Rate = field(default_factory=Rate)
    waiting: dict[int, int] = field(default_factory=dict)
    kv_cache: dict[int, float] = field(default_factory=dict)


class StepLogger:
    """A stat logger of vLLM, one per engine core; by duck type, since vLLM may be imported only later."""

    def __init__(self, steps: Steps, _vllm_config: Any, engine_index: int = 0) -> None:
        self._steps = steps
        self._engine_index = engine_index

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
        """Take note of one step; one without a token (a chunk of a long prompt) is told, too, and is progress."""
        self._steps.count += 1
        if scheduler_stats is not None:
            self._steps.waiting[self._engine_index] = scheduler_stats.num_waiting_reqs
            self._steps.kv_cache[self._engine_index] = scheduler_stats.kv_cache_usage
        if iteration_stats is not None:
            self._steps.prompt_tokens += iteration_stats.num_prompt_tokens
            self._steps.generation_tokens += iteration_stats.num_generation_tokens
            self._steps.generation_rate.add(iteration_stats.num_generation_tokens, now=time.monotonic())

    def log(self) -> None:
        """Nothing to log: vLLM's own logger does."""

    def log_engine_initialized(self) -> None:
        """Nothing to log: vLLM's own logger does."""

    def record_sleep_state(self, *_: Any, **__: Any) -> None:
        """Engines here never sleep: the route is closed."""


class VLLMEngine:
    """A started vLLM."""

    def __init__(
        self,
        *,
        engine: Any,
        app: ASGIApp,
        description: Description,
        steps: Steps,
        witness: Witness,
        lora: LoRA | None,
    ) -> None:
        self.app = app
        self.lora = lora
        self.description = description
        self.stall_seconds = STALL_SECONDS.get(description.device, DEFAULT_STALL_SECONDS)
        self._engine = engine
        self._steps = steps
        self._witness = witness

    def load(self) -> Load:
        """How busy it is.

        How many requests there are is counted here, in the front end: the scheduler's own numbers stay what they were
        after the last step, also when every client has left since.
        """
        requests: int = self._engine.output_processor.get_num_unfinished_requests()
        waiting = min(requests, sum(self._steps.waiting.values()))
        return Load(
            running=requests - waiting,
            waiting=waiting,
            kv_cache_utilization=max(self._steps.kv_cache.values(), default=0.0) if requests else 0.0,
            prompt_tokens_total=self._steps.prompt_tokens,
            generation_tokens_total=self._steps.generation_tokens,
            generation_tokens_per_second=self._steps.generation_rate.at(time.monotonic()),
            steps_total=self._steps.count,
        )

    async def check(self) -> None:
        """Ask vLLM; it watches over its processes.

        Raises:
            EngineDeadError: One of them has died; with its last words.
        """
        try:
            await self._engine.check_health()
        except Exception as error:  # vLLM's EngineDeadError, wherever this version keeps it
            told = self._witness.explain(error)
            raise EngineDeadError(told.sentence, reason=told.reason) from error

    async def stop(self) -> None:
        """End vLLM and its processes."""
        await asyncio.to_thread(self._engine.shutdown)
