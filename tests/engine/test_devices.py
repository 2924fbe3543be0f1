"""Which device computes: the devices that can be asked for, and the error if one is missing."""

from types import SimpleNamespace

import pytest
import torch
from command_line import attnstore

from attnstore.config import RunConfig, SourceConfig
from attnstore.engine.devices import choose_device, choose_dtype
from attnstore.errors import UsageError, WorkerError
from attnstore.learn.config import compute
from attnstore.pipeline.processes import Processes
from attnstore.pipeline.workers import Workers


@pytest.fixture
def two_gpus(monkeypatch):
    """Let torch report two GPUs. Nothing is computed on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")  # the last is not there


def test_a_gpu_is_asked_for_by_its_number(two_gpus):
    """`cuda` is the current GPU; a number is one of the GPUs that torch reports."""
    asked = ("auto", "cpu", "cuda", "cuda:0", "cuda:1")
    assert [str(choose_device(name)) for name in asked] == ["cuda", "cpu", "cuda", "cuda:0", "cuda:1"]


@pytest.mark.parametrize("asked", ["cuda:2", "cuda:10"])
def test_a_missing_gpu_is_refused(asked, two_gpus):
    with pytest.raises(UsageError) as raised:
        choose_device(asked)
    assert str(raised.value) == f"--device {asked}: torch sees 2 GPUs here, the last of them cuda:1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("asked", ["cuda", "cuda:1"])
def test_cuda_is_refused_without_a_gpu(asked):
    with pytest.raises(UsageError) as raised:
        choose_device(asked)
    assert str(raised.value) == (
        f"--device {asked}: torch sees no CUDA device here; leave the option out, or use --device cpu"
    )


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an Apple GPU here")
def test_mps_is_refused_without_an_apple_gpu(two_gpus):
    with pytest.raises(UsageError) as raised:
        choose_device("mps")
    assert str(raised.value) == (
        "--device mps: torch sees no Apple GPU here; leave the option out, or use --device cpu"
    )


def test_an_apple_gpu_is_used_only_on_request_and_never_to_train(monkeypatch):
    """In float32, because nothing was measured there. `auto` is the CPU."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [str(choose_device(name)) for name in ("auto", "mps")] == ["cpu", "mps"]
    assert choose_dtype("auto", choose_device("mps")) == (torch.float32, [])
    assert choose_dtype("bfloat16", choose_device("mps")) == (torch.bfloat16, [])
    with pytest.raises(UsageError) as raised:
        compute(SimpleNamespace(device="mps", dtype="auto"))
    assert str(raised.value) == "--device mps: models are trained on CUDA or a CPU: use --device cpu"


@pytest.mark.parametrize("asked", ["cuda:", "cuda:-1", "cuda:01", "cuda:1 ", "cudas", "gpu", 1])
def test_an_unknown_device_is_refused(asked, two_gpus):
    with pytest.raises(UsageError) as raised:
        choose_device(asked)
    assert str(raised.value) == (
        f"--device {asked}: it is one of auto, cpu, cuda, mps, or cuda:N for one of several GPUs"
    )


def test_the_command_line_accepts_gpu_numbers(tmp_path):
    """`cuda:1` reaches the run, which reports whether it exists; `cuda:x` is refused before."""
    given = (
        "run",
        tmp_path / "s.attn",
        "--data",
        tmp_path / "no.csv",
        "--model",
        tmp_path / "no",
        "--device",
    )
    assert "'cuda:x' is not one of 'auto', 'cpu', 'cuda'" in attnstore(*given, "cuda:x")[2]
    assert "no such file or folder" in attnstore(*given, "cuda:1")[2]


@pytest.mark.parametrize(
    ("asked", "of_workers"), [("cuda", ["4", "7", "4"]), ("auto", ["4", "7", "4"]), ("cuda:1", [None] * 3)]
)
def test_each_worker_has_its_own_gpu_unless_one_is_named(asked, of_workers, two_gpus, monkeypatch):
    """By the GPUs that a worker can see. A named GPU keeps its number, so all of them stay visible."""
    started = []

    def start(command, *, env, **_):
        started.append(env["CUDA_VISIBLE_DEVICES"])
        raise OSError("enough")

    monkeypatch.setattr("subprocess.Popen", start)
    workers = Workers(RunConfig(SourceConfig(""), "model", device=asked, workers=3), 1, Processes())
    for hired in range(3):
        with pytest.raises(WorkerError):
            workers.load() if not hired else workers._hire(hired)
    assert started == [each or "4,7,9" for each in of_workers]


def test_training_selects_its_gpu_by_the_environment(two_gpus):
    """transformers' trainer uses all visible GPUs."""
    with pytest.raises(UsageError) as raised:
        compute(SimpleNamespace(device="cuda:1", dtype="auto"))
    assert str(raised.value) == (
        "--device cuda:1: training uses the visible GPUs: use --device cuda, with CUDA_VISIBLE_DEVICES=7 in"
        " the environment"
    )
