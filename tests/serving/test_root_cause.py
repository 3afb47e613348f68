"""From what vLLM raised and printed to one sentence. The texts are vLLM 0.32's own, shortened."""

from pathlib import Path

import pytest

from sundog_serving.cgroup import oom_kills
from sundog_serving.contract import Reason
from sundog_serving.root_cause import explain, printed_causes

ENGINE_FAILED = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")

# A worker process, then the engine's: the first traceback is the cause, the second repeats it.
TWO_PROCESSES = """\
WorkerProc failed to start.
Traceback (most recent call last):
  File "vllm/v1/executor/multiproc_executor.py", line 920, in worker_main
    worker = WorkerProc(*args, **kwargs)
             ^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "vllm/model_executor/layers/linear.py", line 100, in weight_loader
    param.narrow(0, 0, 256)
RuntimeError: start (0) + length (256) exceeds dimension size (128).
EngineCore failed to start.
Traceback (most recent call last):
  File "vllm/v1/engine/core.py", line 1482, in run_engine_core
    engine_core = EngineCoreProc(*args, engine_index=dp_rank, **kwargs)
Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.
Process EngineCore:
Traceback (most recent call last):
  File "/usr/lib/python3.11/multiprocessing/process.py", line 314, in _bootstrap
    self.run()
Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.
""".splitlines()

# With vLLM's own logging, each line bears process and place.
PREFIXED = """\
(EngineCore pid=831) ERROR 11-22 15:57:37 [core.py:1482] EngineCore failed to start.
(EngineCore pid=831) ERROR 11-22 15:57:37 [core.py:1482] Traceback (most recent call last):
(EngineCore pid=831) ERROR 11-22 15:57:37 [core.py:1482]   File "vllm/v1/engine/core.py", line 1, in run
(EngineCore pid=831) ERROR 11-22 15:57:37 [core.py:1482] torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB.
""".splitlines()


def test_the_cause_is_the_exception_of_the_process_that_failed_first() -> None:
    told = explain(ENGINE_FAILED, TWO_PROCESSES, oom_killed=False)
    assert told.reason is Reason.MODEL_INVALID
    assert told.sentence.startswith("RuntimeError: start (0) + length (256) exceeds dimension size (128); ")


def test_prefixes_of_processes_do_not_hide_the_cause() -> None:
    assert printed_causes(PREFIXED) == ["OutOfMemoryError: CUDA out of memory. Tried 2 GiB."]
    told = explain(ENGINE_FAILED, PREFIXED, oom_killed=False)
    assert told.reason is Reason.OUT_OF_MEMORY
    assert told.sentence.startswith("OutOfMemoryError: CUDA out of memory. Tried 2 GiB; lower max-model-len")


def test_an_exception_of_this_process_needs_no_output() -> None:
    told = explain(ValueError("no such thing"), TWO_PROCESSES, oom_killed=False)
    assert told.reason is Reason.ENGINE_START_FAILED
    assert told.sentence == "ValueError: no such thing; the replica's log has the whole story"


def test_a_message_of_several_lines_is_joined() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "x.py", line 1, in x',
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "  Value error, Model architectures ['FooForCausalLM'] are not supported for now. Supported: ['Bar']",
        "    For further information visit somewhere",
    ]
    told = explain(ENGINE_FAILED, lines, oom_killed=False)
    assert told.reason is Reason.MODEL_INVALID
    assert told.sentence.startswith("Model architectures ['FooForCausalLM'] are not supported for now")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "Worker failed with error 'Available memory on node 0 (1/2 GiB) is less than requested'",
            Reason.OUT_OF_MEMORY,
        ),
        ("No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", Reason.OUT_OF_MEMORY),
        ("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory", Reason.OUT_OF_MEMORY),
        ("Free memory on device cuda:0 (1/80 GiB) on startup is less than desired", Reason.OUT_OF_MEMORY),
        ("Transformers does not recognize this architecture", Reason.MODEL_INVALID),
        ("Following weights were not initialized from checkpoint: {'a'}", Reason.MODEL_INVALID),
        ("Couldn't instantiate the backend tokenizer from one of", Reason.MODEL_INVALID),
        ("Error while deserializing header: HeaderTooLarge", Reason.MODEL_INVALID),
        ("something else", Reason.ENGINE_ARGUMENT_INVALID),
    ],
)
def test_each_message_has_its_reason(message: str, reason: Reason) -> None:
    told = explain(ValueError(message), [], oom_killed=False, fallback=Reason.ENGINE_ARGUMENT_INVALID)
    assert told.reason is reason


def test_long_advice_is_left_out() -> None:
    message = (
        "User-specified max_model_len (9) is greater than the derived max_model_len (2). " + "Set this or that. " * 99
    )
    told = explain(ValueError(message), [], oom_killed=False)
    assert told.sentence.startswith("ValueError: User-specified max_model_len (9) is greater than")
    assert len(told.sentence) < 400


def test_a_process_that_the_kernel_killed_for_memory_is_out_of_memory() -> None:
    told = explain(ENGINE_FAILED, [], oom_killed=True)
    assert told.reason is Reason.OUT_OF_MEMORY
    assert "at the container's memory limit" in told.sentence


@pytest.mark.parametrize(("exit_code", "reason"), [(-9, Reason.OUT_OF_MEMORY), (-4, Reason.ENGINE_START_FAILED)])
def test_a_process_that_a_signal_ended_is_told_with_the_signal(exit_code: int, reason: Reason) -> None:
    error = RuntimeError(
        f"Engine core initialization failed. See root cause above. Failed core proc(s): {{'EngineCore': {exit_code}}}"
    )
    told = explain(error, [], oom_killed=False)
    assert told.reason is reason
    assert f"ended by signal {-exit_code}" in told.sentence


def test_a_worker_that_died_without_a_word_is_told() -> None:
    lines = ["Worker proc VllmWorker-0 died unexpectedly (exit code: None), shutting down executor."]
    told = explain(RuntimeError("Executor failed."), lines, oom_killed=False)
    assert told.sentence.startswith("a process of the engine died and left no traceback")


def test_both_kinds_of_cgroup_tell_of_kills(tmp_path: Path) -> None:
    second, first = tmp_path / "memory.events", tmp_path / "memory.oom_control"
    assert oom_kills([second, first]) == 0
    first.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert oom_kills([second, first]) == 2
    second.write_text("low 0\nhigh 0\nmax 9\noom 3\noom_kill 3\noom_group_kill 0\n")
    assert oom_kills([second, first]) == 3
