"""What `sundog_serving.vllm_engine` touches of vLLM, and whether the vLLM at hand has it.

Runs under an interpreter that has vLLM and prints a JSON document: ``missing`` (names or parameters that are not
there), ``arguments`` (those of its command line) and ``routes`` (all that its app may have, the development ones too,
open or closed by our guard).

    PYTHONPATH=serving:. <environment>/bin/python -m tests.serving.vllm_contract

Another version is tried by putting its unpacked wheel first on PYTHONPATH; this was done for 0.29.0, 0.30.0 and 0.31.0.
"""

# ruff: noqa: PLC0415  vLLM reads its environment at import
import importlib
import inspect
import json
import os
import sys
from typing import Any, get_args

os.environ |= {"VLLM_CONFIGURE_LOGGING": "0", "VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}

# Module, name (dotted), parameters that are passed by name or position.
CONTRACT: list[tuple[str, str, tuple[str, ...]]] = [
    ("vllm.entrypoints.launchers.cli_args", "make_arg_parser", ("parser",)),
    ("vllm.entrypoints.launchers.cli_args", "validate_parsed_serve_args", ("args",)),
    ("vllm.utils.argparse_utils", "FlexibleArgumentParser.parse_args", ("args",)),
    ("vllm.engine.arg_utils", "AsyncEngineArgs.from_cli_args", ("args",)),
    ("vllm.engine.arg_utils", "AsyncEngineArgs.create_engine_config", ("usage_context",)),
    ("vllm.tool_parsers", "ToolParserManager.import_tool_parser", ("plugin_path",)),
    ("vllm.reasoning", "ReasoningParserManager.import_reasoning_parser", ("plugin_path",)),
    ("vllm.usage.usage_lib", "UsageContext.OPENAI_API_SERVER", ()),
    (
        "vllm.v1.engine.async_llm",
        "AsyncLLM.from_vllm_config",
        (
            "vllm_config",
            "usage_context",
            "stat_loggers",
            "enable_log_requests",
            "aggregate_engine_logging",
            "disable_log_stats",
        ),
    ),
    ("vllm.v1.engine.async_llm", "AsyncLLM.check_health", ()),
    ("vllm.v1.engine.async_llm", "AsyncLLM.get_supported_tasks", ()),
    ("vllm.v1.engine.async_llm", "AsyncLLM.reset_mm_cache", ()),
    ("vllm.v1.engine.async_llm", "AsyncLLM.shutdown", ()),
    ("vllm.v1.engine.utils", "CoreEngineProcManager.finished_procs", ()),
    ("vllm.v1.engine.output_processor", "OutputProcessor.get_num_unfinished_requests", ()),
    ("vllm.v1.metrics.loggers", "StatLoggerBase.record", ("scheduler_stats", "iteration_stats")),
    ("vllm.v1.metrics.loggers", "PrometheusStatLogger", ("vllm_config", "engine_indexes")),
    ("vllm.v1.metrics.ray_wrappers", "RayPrometheusStatLogger", ("vllm_config", "engine_indexes")),
    ("vllm.v1.metrics.stats", "SchedulerStats", ("num_waiting_reqs", "kv_cache_usage")),
    ("vllm.v1.metrics.stats", "IterationStats.__init__", ()),
    ("vllm.entrypoints.launchers.app", "build_app", ("args", "supported_tasks", "model_config")),
    (
        "vllm.entrypoints.launchers.api_server.app_state",
        "init_app_state",
        ("engine_client", "state", "args", "supported_tasks"),
    ),
    ("vllm.platforms", "current_platform.device_type", ()),
    ("vllm.lora.request", "LoRARequest", ("lora_name", "lora_int_id", "lora_path")),
    ("vllm.v1.engine.async_llm", "AsyncLLM.add_lora", ("lora_request",)),
    ("vllm.v1.engine.async_llm", "AsyncLLM.remove_lora", ("lora_id",)),
    ("vllm.v1.engine.async_llm", "AsyncLLM.list_loras", ()),
    ("vllm.v1.engine.output_processor", "RequestState.__init__", ("lora_request",)),
    ("vllm.entrypoints.openai.models.serving", "OpenAIServingModels.resolve_lora", ("lora_name",)),
]
# What the stat logger reads of an IterationStats, and what is read of the parsed arguments.
ITERATION = ("num_prompt_tokens", "num_generation_tokens")
PARSED = (
    "model",
    "served_model_name",
    "load_format",
    "disable_fastapi_docs",
    "tool_parser_plugin",
    "reasoning_parser_plugin",
    "enable_log_requests",
    "aggregate_engine_logging",
    "disable_log_stats",
    "enable_lora",
    "max_lora_rank",
    "max_loras",
    "max_cpu_loras",
)


class AnyModel:
    """As much of a model's configuration as the routes depend on."""

    pooler_config = None

    def get_pooling_task(self, _tasks: object) -> str:
        return "embed"


def missing() -> list[str]:
    found = []
    for module, name, parameters in CONTRACT:
        try:
            target: Any = importlib.import_module(module)
            for part in name.split("."):
                target = getattr(target, part)
        except (ImportError, AttributeError) as error:
            found.append(f"{module}.{name}: {error}")
            continue
        if parameters:
            has = inspect.signature(target).parameters
            found += [f"{module}.{name} has no {parameter}" for parameter in parameters if parameter not in has]
    stats = importlib.import_module("vllm.v1.metrics.stats").IterationStats()
    found += [f"IterationStats has no {name}" for name in ITERATION if not hasattr(stats, name)]
    return found


def tasks(annotation: object) -> list[str]:
    inner = get_args(annotation)
    return [task for part in inner for task in tasks(part)] if inner else [str(annotation)]


def main() -> dict[str, Any]:
    from sundog_serving import vllm_engine
    from sundog_serving.routes import open_route
    from sundog_serving.settings import Settings

    lacking = missing()
    asked = {"enable-tokenizer-info-endpoint": True}
    args: dict[str, Any] = {"engine": "vllm", "model": {"uri": "pvc://a/b", "name": "m"}, "engine_args": asked}
    parsed = vllm_engine.parse_arguments(Settings.from_args(args), "at hand")
    lacking += [f"the parsed arguments have no {name}" for name in PARSED if not hasattr(parsed, name)]
    parsed.enable_scale_out = True
    supported = tuple(tasks(importlib.import_module("vllm.tasks").SupportedTask))
    app = importlib.import_module("vllm.entrypoints.launchers.app").build_app(parsed, supported, AnyModel())
    routes = {route.path: open_route(route.path.replace("{", "").replace("}", "")) is not None for route in app.routes}
    return {"missing": lacking, "arguments": sorted(vars(parsed)), "tasks": supported, "routes": routes}


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
