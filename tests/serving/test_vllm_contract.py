"""The adapter against the vLLM at hand: every name it touches is there, every route of it was looked at."""

import json
import subprocess

import pytest

from tests.models import environment
from tests.serving.test_vllm import vllm_environ

pytestmark = pytest.mark.vllm

CONTROL_ROUTES = {
    "/abort_requests",
    "/adapters",
    "/adapters/{adapter_name}",
    "/collective_rpc",
    "/finish_weight_update",
    "/get_world_size",
    "/inference/v1/abort_requests",
    "/init_weight_transfer_engine",
    "/is_paused",
    "/is_scaling_elastic_ep",
    "/is_sleeping",
    "/kv_event_sources",
    "/pause",
    "/release_kv_cache_memory",
    "/reset_encoder_cache",
    "/reset_mm_cache",
    "/reset_prefix_cache",
    "/resume",
    "/scale_elastic_ep",
    "/server_info",
    "/shutdown_weight_transfer_engine",
    "/sleep",
    "/start_draft_weight_update",
    "/start_weight_update",
    "/update_weight_version",
    "/update_weights",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/wake_up",
    "/weight_checker",
    "/weight_info",
}
"""Of vLLM 0.32 in its development mode. A new one fails the test until somebody has put it here or into `routes`."""


def test_the_adapter_and_this_vllm_agree() -> None:
    """Every name, parameter and argument that the adapter touches is there, and every route was looked at."""
    done = subprocess.run(
        [environment() / "bin" / "python", "-m", "tests.serving.vllm_contract"],
        env=vllm_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["missing"] == []
    assert {"max_model_len", "tensor_parallel_size", "tool_call_parser"} <= set(found["arguments"])
    closed = {route for route, is_open in found["routes"].items() if not is_open}
    assert closed == CONTROL_ROUTES
    assert {"/v1/chat/completions", "/v1/embeddings", "/v1/responses/{response_id}", "/metrics"} <= set(found["routes"])
