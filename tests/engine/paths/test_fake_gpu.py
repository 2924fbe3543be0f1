"""A batch's complete path on a GPU that does not exist: shapes, devices and dtypes are checked, nothing is computed.

Fake tensors know their device. Whatever would make the host wait for the GPU in the middle of a batch is an error here:
reading a value, copying to memory that is not pinned, and shapes that depend on values.
"""

import contextlib
import inspect
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
import tiny
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import masking_utils

from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.engine import classifier as classifiers
from attnstore.engine import loading, tap
from attnstore.engine.batches import plan_batches, tokenise
from attnstore.engine.paths import cuda, kernel
from attnstore.engine.reductions import resolve_reductions, upload

GPU = torch.device("cuda:1")
REDUCTIONS = ["cls", "received", "rollout", "cls_heads", "norm", "from_3"]
#: torch records gradients only for real devices.
OF_GRADIENTS = ["evidence", "relevance"]
#: transformers 5.20 waits for the GPU there, which fake tensors do not allow.
MAKES_MASKS_ON_THE_HOST = "torch.tensor(" in inspect.getsource(masking_utils.eager_mask)
TEXTS = ["a", "", "the plot was never boring", "awful movie ! " * 9]


def loudest(probabilities):
    """The largest probability of any head."""
    return probabilities.amax(dim=(0, 1))


class NoWait(TorchDispatchMode):
    """Fails if anything but pinned memory is copied between host and GPU, or if the host waits for the GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        copies = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if function in copies:
            to, source = (args[0], args[1]) if function is copies[1] else (result, args[0])
            if to.device.type != source.device.type:
                host = to if to.device.type == "cpu" else source
                waiting = not kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
                assert not waiting, f"the host waits for a copy of {tuple(to.shape)} from {source.device}"
                assert host.is_pinned_here, f"{tuple(to.shape)} from {source.device} is not pinned"
        return result


class Started(TorchDispatchMode):
    """Counts the operations that start work on the GPU: all but views, reserved memory and dropout, which is off."""

    NONE: ClassVar = {torch.ops.aten.empty, torch.ops.aten.dropout}

    def __init__(self):
        super().__init__()
        self.operations = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor) and x.device.type == "cuda"]
        if made and not function.is_view and function.overloadpacket not in self.NONE:
            self.operations[function.overloadpacket] += 1
        return result


class Indexed(TorchFunctionMode):
    """Replaces `x[…]` and a few other functions by the operations they stand for, because torch's own begin by
    switching to a real GPU.
    """

    ALIKE: ClassVar = {
        torch.Tensor.__invert__: torch.ops.aten.bitwise_not,
        torch.Tensor.contiguous: torch.ops.aten.contiguous,
        torch.Tensor.copy_: torch.ops.aten.copy_,
    }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        func = self.ALIKE.get(func, func)
        if func is torch.Tensor.__getitem__:
            return self.at(*args)
        if func is torch.Tensor.__setitem__:
            x, index, value = args
            index = index if isinstance(index, tuple) else (index,)
            if any(isinstance(each, torch.Tensor) for each in index):
                return torch.ops.aten.index_put_(x, list(index), value)
            place = self.at(x, index)
            return (
                torch.ops.aten.copy_(place, value) if isinstance(value, torch.Tensor) else place.fill_(value)
            )
        return func(*args, **(kwargs or {}))

    @staticmethod
    def at(x, index):
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in [each for each in index if not isinstance(each, torch.Tensor)]:
            place = index.index(Ellipsis)
            given = sum(each is not None for each in index) - 1
            index = (*index[:place], *[slice(None)] * (x.dim() - given), *index[place + 1 :])
        axis, gathered = 0, []
        for each in index:
            if isinstance(each, int):
                x = torch.ops.aten.select.int(x, axis, each)
            elif each is None:
                x, axis = torch.ops.aten.unsqueeze(x, axis), axis + 1
            elif isinstance(each, slice):
                x = torch.ops.aten.slice.Tensor(x, axis, each.start, each.stop, each.step or 1)
                axis += 1
            else:
                gathered += [None] * (axis - len(gathered)) + [torch.as_tensor(each)]
                axis += 1
        return torch.ops.aten.index.Tensor(x, gathered) if gathered else x


class Launches:
    """Replaces the Triton kernel: records its arguments, and checks that a GPU could read them."""

    def __init__(self, device, current):
        self.device, self.current, self.seen = device, current, []

    def __getitem__(self, grid):
        def launch(
            query, key, lse, weights, sums, first_rows, tiles, count, tokens, heads, group, *more, **constants
        ):  # fmt: skip
            assert self.current() == self.device.index, "launched on the current GPU, which is another"
            given = (query, key, lse, weights, sums, first_rows, tiles)
            assert {x.device for x in given} == {self.device}
            assert (count, grid) == (tiles.shape[1], (tiles.shape[1],))
            assert query.shape[:2] == (tokens, heads) and key.shape[:2] == (tokens, heads // group)
            assert more[:4] == (*query.stride()[:2], *key.stride()[:2])
            assert (query.stride(-1), key.stride(-1)) == (1, 1)
            assert lse.shape == (heads, tokens) and lse.is_contiguous() and lse.dtype == torch.float32
            assert weights.shape == sums.shape == (constants["WEIGHTINGS"], tokens)
            assert weights.is_contiguous() and sums.is_contiguous()
            assert tiles.dtype == torch.int32 and tiles.is_contiguous()
            assert constants["WIDEN"] == (self.device.type == "cpu")
            self.seen.append((constants["WEIGHTINGS"], constants["HEAD_ROWS"], constants["WINDOWED"]))

        return launch


@pytest.fixture
def gpu(monkeypatch):
    """A fake GPU with number 1, while number 0 is the current one. Yields what was launched and what was tried."""
    column_sums = pytest.importorskip("attnstore.engine.paths.column_sums", reason="there is no Triton")
    current = [0]

    @contextlib.contextmanager
    def device_of(tensor):
        current.append(tensor.device.index)
        yield
        current.pop()

    @contextlib.contextmanager
    def stream(_):
        yield

    class Stream:
        def wait_stream(self, other): ...

        def record_event(self):
            return Event()

    class Event:
        def synchronize(self):
            waited.append(self)

    waited, launches, tried = [], Launches(GPU, lambda: current[-1]), []

    def pinned(tensor):
        tensor.is_pinned_here = True
        return tensor

    def pin(numbers):
        return pinned(torch.empty(numbers))

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "is_pinned_here", False, raising=False)
    monkeypatch.setattr(cuda, "_side_stream", lambda _: Stream())
    monkeypatch.setattr(cuda, "_pinned", pin)
    monkeypatch.setattr(cuda, "_disproof", lambda kernels: tried.append(kernels) or "")
    monkeypatch.setattr(column_sums, "_column_sums", launches)
    # Weightings are made from values on the host, and fake tensors have none.
    monkeypatch.setattr(
        classifiers, "called", lambda name, own, document, given: OnTheHost(np.asarray(own(given)))
    )
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, Indexed():
        yield mode, launches, tried, waited


class OnTheHost:
    def __init__(self, array):
        self.array = array

    def cpu(self):
        return self.array


def loaded(folder, reductions):
    """Loaded on the CPU, where the path through the model is found."""
    config = RunConfig(SourceConfig(""), str(folder), dtype="float32", device="cpu", max_length=32)
    return loading.load_classifier(config, resolve_reductions(reductions))


def moved(classifier, mode, dtype, device=GPU):
    """The same model on the fake GPU, or on another fake device."""
    for module in classifier.model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is None:
                    continue
                there = mode.from_tensor(tensor.detach()).to(device)
                there = there.to(dtype) if there.is_floating_point() else there
                held[name] = torch.nn.Parameter(there, False) if held is module._parameters else there
    classifier.device, classifier.dtype = device, dtype
    return classifier


def batch_of(classifier, texts=TEXTS):
    documents = [Document(text, str(i), None, "all", None) for i, text in enumerate(texts)]
    tokenised = tokenise(enumerate(documents), classifier.tokenizer, classifier.max_length)
    (batch,) = plan_batches(tokenised, 1000, padded=classifier.padded)
    return batch


def assert_arrived(reduced, classifier, batch, waited):
    """Logits and all columns are on the CPU after a single wait for all of them, and not before."""
    assert waited == []
    logits = reduced.logits
    assert len(waited) == 1
    found = {"": logits, **reduced.columns}
    assert {x.device.type for x in found.values()} == {"cpu"}
    assert {x.dtype for x in found.values()} == {torch.float32}
    shapes = {"": (len(batch.documents), len(classifier.labels))}
    for reduction in classifier.reductions:
        for name in reduction.stored.columns(classifier.layers):
            shapes[name] = (batch.tokens, classifier.heads) if reduction.head_rows else (batch.tokens,)
    assert {name: tuple(x.shape) for name, x in found.items()} == shapes


@pytest.mark.sampled(4)
@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in tiny.ROUTED if name != "xmod"])
def test_a_batch_runs_on_the_gpu_without_a_wait(family, gpu, tmp_path):
    """bfloat16, with every family that calls registered functions: flash attention in each layer, then the rollout
    sweep. X-MOD is excluded, because it looks up which documents have which language, and the host waits for that.
    """
    mode, launches, tried, waited = gpu
    with contextlib.ExitStack() as real:
        real.enter_context(torch._subclasses.fake_tensor.unset_fake_temporarily())
        tiny.save(tmp_path, family)
        classifier = loaded(tmp_path, REDUCTIONS)
        batch = batch_of(classifier)
    moved(classifier, mode, torch.bfloat16)
    with NoWait():
        reduced = classifier(batch)
    assert_arrived(reduced, classifier, batch, waited)
    assert classifier.kernel == cuda.PATH
    # Per layer: the three weightings with the first rows, and later a step of the sweep.
    assert [(w, rows) for w, rows, _ in launches.seen] == [(3, True)] * classifier.layers + [
        (1, False)
    ] * classifier.layers
    assert {kernels.device for kernels in tried} == {GPU}


@pytest.mark.slow
def test_a_batch_of_many_documents_starts_no_more_work_than_one_of_few(gpu, tmp_path):
    """A layer of BERT starts at most 16 pieces of work, so the host stays ahead of a GPU (docs/performance.md)."""
    mode, launches, *_ = gpu
    with contextlib.ExitStack() as real:
        real.enter_context(torch._subclasses.fake_tensor.unset_fake_temporarily())
        tiny.save(tmp_path, "bert")
        classifier = loaded(tmp_path, ["cls", "received", "rollout"])
        batches = batch_of(classifier), batch_of(classifier, TEXTS * 10)
    moved(classifier, mode, torch.bfloat16)
    found = []
    for batch in batches:
        launches.seen.clear()
        with Started() as started:
            classifier(batch)
        assert classifier.kernel == cuda.PATH
        found.append((started.operations, len(launches.seen)))
    assert found[0] == found[1]
    operations, launched = found[0]
    assert launched == 2 * classifier.layers  # the weighted sums, and a step of the rollout sweep
    # Beside the layers: embeddings, masks, pooler and head.
    assert operations.total() + launched <= 16 * classifier.layers + 20


@pytest.mark.sampled(4)
@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gte", "modernbert", "eurobert", "mpnet", "megatron-bert"])
@pytest.mark.parametrize("custom", [False, True], ids=["built in", "custom"])
def test_a_batch_without_flash_attention_runs_on_the_gpu_without_a_wait(family, custom, gpu, tmp_path):
    """float32, custom reductions, and models that compute attention themselves: documents side by side, padded."""
    if family == "mpnet" and MAKES_MASKS_ON_THE_HOST:
        pytest.skip("this transformers copies a number to the GPU for every mask of a model like MPNet")
    mode, launches, _, waited = gpu
    with contextlib.ExitStack() as real:
        real.enter_context(torch._subclasses.fake_tensor.unset_fake_temporarily())
        tiny.save(tmp_path, family)
        classifier = loaded(tmp_path, [*REDUCTIONS, *([loudest] if custom else [])])
        batch = batch_of(classifier)
    moved(classifier, mode, torch.float32)
    with NoWait():
        reduced = classifier(batch)
    assert_arrived(reduced, classifier, batch, waited)
    assert launches.seen == []


@pytest.mark.sampled(at=(0, 3))
@pytest.mark.slow
@pytest.mark.parametrize("flash", [True, False], ids=["flash attention", "padded"])
@pytest.mark.parametrize("family", ["bert", "gte"])
def test_the_backward_pass_reads_no_value(family, flash, gpu, tmp_path, monkeypatch):
    """With fake CPU tensors, whose gradients can be recorded: reading a value is an error there, too."""
    mode, launches, *_ = gpu
    with contextlib.ExitStack() as real:
        real.enter_context(torch._subclasses.fake_tensor.unset_fake_temporarily())
        tiny.save(tmp_path, family)
        classifier = loaded(tmp_path, [*REDUCTIONS, *OF_GRADIENTS])
        batch = batch_of(classifier)
    moved(classifier, mode, torch.bfloat16 if flash else torch.float32, torch.device("cpu"))
    launches.device = classifier.device
    monkeypatch.setattr(torch.cuda, "device_of", lambda _: contextlib.nullcontext())
    launches.current = lambda: None
    monkeypatch.setattr(kernel, "serves", lambda *_: False)
    monkeypatch.setattr(cuda, "obstacle", lambda *_, **__: "" if flash else "no flash attention")
    monkeypatch.setattr(tap, "_on_gpu", lambda _: True)
    columns = classifier(batch).columns
    assert {x.shape[0] for x in columns.values()} == {batch.tokens}
    assert {"evidence", "relevance"} <= columns.keys()
    assert len(launches.seen) == (2 * classifier.layers if flash else 0)


def test_an_array_reaches_the_gpu_without_pinned_memory(gpu, monkeypatch):
    """If the system refuses to pin memory, the host waits for the copy. This is not taken for a full GPU."""

    def refused(_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.Tensor, "pin_memory", refused)
    array = np.arange(3)
    assert upload(array, GPU).device == GPU
    with NoWait(), pytest.raises(AssertionError, match="the host waits"):
        upload(array, GPU)
