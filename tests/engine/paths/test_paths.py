"""Every path of attention against float64 results from the same q and k: one table of paths, one oracle.

What only concerns the C++ kernel (layouts, threads, when it is not used) is in `test_kernel`. Here are the other paths,
and what all of them promise.
"""

import importlib
import itertools
import json

import numpy as np
import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nursery import Child
from random_batch import RandomBatch
from torch.utils._python_dispatch import TorchDispatchMode

from attnstore.check.oracle import Oracle, reduced_by_definition
from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.engine import loading, reductions, tap
from attnstore.engine.batches import plan_batches, tokenise
from attnstore.engine.paths import cuda, kernel, padded
from attnstore.engine.reductions import attend, join, reduce_probabilities, resolve_reductions
from attnstore.engine.tap import Tap

HEAD_SIZES = [8, 16, 32, 64, 80, 96, 128]


def interpreted():
    """Import the Triton kernel for the interpreter; False without Triton.

    TRITON_INTERPRET=1 would do if transformers had not imported Triton already. Whether a function is interpreted or
    compiled is decided when it is defined, so Triton's own library is defined again, too.
    """
    try:
        import triton
        import triton.experimental.gluon  # otherwise the first launch would import it half defined
        import triton.language
    except ImportError:
        return False
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = True
        importlib.reload(triton.language.standard)
        importlib.reload(triton.language)
        importlib.import_module("attnstore.engine.paths.column_sums")
    return True


INTERPRETED = interpreted()
NO_TRITON = "Triton is not installed: there is a wheel for Linux"
needs_triton = pytest.mark.skipif(not INTERPRETED, reason=NO_TRITON)


def by_reference(batch, block):
    """`reductions.attend`, document by document, and the sweep from what it keeps."""
    output = batch.q.new_zeros(batch.batch, batch.rows, batch.heads, batch.v.shape[-1])
    documents = []
    for place, own, q, k, v in batch.documents():
        found = attend(
            q, k, v, batch.scale, batch.weights[:, own],
            window=batch.window, head_rows=True, trace=True, block=block,
        )  # fmt: skip
        output[place] = found.output.transpose(0, 1)
        documents.append(found)
    layer = join(documents)
    return output, layer.weighted, layer.head_rows, layer.apply_transposed_mean(batch.sweep)


def by_kernel(batch):
    """The C++ kernel, with AMX if the processor has it."""
    if not kernel.path(batch.dtype).startswith("c++"):
        pytest.skip(kernel.path(batch.dtype))
    output, layer = kernel.attend(
        batch.q, batch.k, batch.v, batch.scale, batch.places, batch.weights,
        window=batch.window, head_rows=True, keep=kernel.Workspace(),
    )  # fmt: skip
    return output, layer.weighted, layer.head_rows, layer.apply_transposed_mean(batch.sweep)


def flash(q, k, v, scale, layout, window):
    """The results of flash attention, without a GPU: (T, heads, d) output, and (heads, T) float32 log-sum-exp."""
    group = q.shape[1] // k.shape[1]
    outputs, sums = [], []
    bounds = layout.bounds.tolist()
    for start, end in itertools.pairwise(bounds):
        own = slice(start, end)
        mine, its, values = (x[own].transpose(0, 1).double() for x in (q, k, v))
        its, values = its.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
        scores = mine @ its.transpose(1, 2) * scale
        if window is not None:
            at = torch.arange(end - start)
            scores.masked_fill_((at[:, None] - at[None]).abs() > window, -torch.inf)
        outputs.append((scores.softmax(-1) @ values).transpose(0, 1))
        sums.append(scores.logsumexp(-1))
    return torch.cat(outputs).to(q.dtype), torch.cat(sums, 1).float()


def by_triton(batch):
    """The CUDA path with its Triton kernel interpreted; only flash attention itself is replaced."""
    if not INTERPRETED:
        pytest.skip(NO_TRITON)
    layout = cuda.Layout.of(batch.lengths, torch.device("cpu"), packed=batch.packed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "_flash", flash)
        output, layer = cuda.attend(
            batch.q, batch.k, batch.v, batch.scale, layout, batch.weights,
            window=batch.window, head_rows=True, keep=True,
        )  # fmt: skip
    return output, layer.weighted, layer.head_rows, layer.apply_transposed_mean(batch.sweep)


def by_padding(batch, block=None):
    """Documents side by side, padded, in groups of at most `block` probabilities."""
    layout = cuda.Layout.of(batch.lengths, torch.device("cpu"), packed=batch.packed)
    group = batch.heads // batch.k.shape[1]
    q, k, v = (
        layout.end_to_end(x) for x in (batch.q, *(x.repeat_interleave(group, 1) for x in (batch.k, batch.v)))
    )
    output, layer = padded.attend(
        q, k, v, batch.scale, padded.groups_of(batch.lengths, batch.heads, q.device, block), batch.weights,
        window=batch.window, head_rows=True, keep=True, block=block,
    )  # fmt: skip
    return (
        layout.back(output, batch.batch, batch.rows),
        layer.weighted,
        layer.head_rows,
        layer.apply_transposed_mean(batch.sweep),
    )


def by_hook(batch):
    """Whole probabilities, as from an eager model, which has computed its own output."""
    documents = []
    for _, own, q, k, _ in batch.documents():
        scores = (q.float() @ k.float().transpose(1, 2)) * batch.scale
        p = scores.masked_fill(batch.hidden(q.shape[1]), -torch.inf).softmax(-1)
        documents.append(
            reduce_probabilities(p, batch.weights[:, own], head_rows=True, custom=(), trace=True)
        )
    layer = join(documents)
    return None, layer.weighted, layer.head_rows, layer.apply_transposed_mean(batch.sweep)


def by_identity(batch):
    """Column sums as the log-sum-exp of torch's flash attention with q and k swapped and a bias on its keys.

    out_j = exp(LSE'_j), where LSE' belongs to queries k_j, keys q_i, and the bias log w_i − lse_i. It contains no code
    of attnstore.
    """
    flash_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    rows = torch.cat([batch.weights, batch.sweep[None]])
    pieces = []
    for _, own, *both, _ in batch.documents():
        q, k = (x.float()[None].contiguous() for x in both)  # (1, heads, n, d)
        beyond = batch.hidden(q.shape[2])
        hidden = torch.zeros(beyond.shape).masked_fill(beyond, -torch.inf)
        _, lse = flash_attention(q, k, k, attn_mask=hidden, scale=batch.scale)
        lse = lse.contiguous()  # (1, heads, n)
        sums = []
        for w in rows[:, own]:
            bias = (w.log() - lse)[..., None, :] + hidden
            _, swapped = flash_attention(k, q, q, attn_mask=bias, scale=batch.scale)
            sums.append(swapped.contiguous()[0].exp().mean(0))
        pieces.append(torch.stack(sums))
    weighted = torch.cat(pieces, 1)
    return None, weighted[:-1], None, weighted[-1]


PATHS = {
    "reference": lambda batch: by_reference(batch, 1 << 22),
    "blocked": lambda batch: by_reference(batch, 977),
    "c++ kernel": by_kernel,
    "triton": by_triton,
    "padded": by_padding,
    "padded, long documents by blocks of rows": lambda batch: by_padding(batch, 9_999),
    "hooked": by_hook,
    "identity": by_identity,
}
#: The C++ kernel draws its own shapes in test_kernel.
DRAWN = [name for name in PATHS if name != "c++ kernel"]


@pytest.mark.sampled(5)
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("depth", HEAD_SIZES)
@pytest.mark.parametrize("path", PATHS)
def test_every_path_agrees_with_float64_for_every_head_size(path, depth, dtype):
    """Ragged documents of 1 to 130 tokens: float32 to 1e-5, bfloat16 q and k to 1e-3 relative."""
    batch = RandomBatch(dtype, [1, 2, 63, 64, 65, 130], heads=2, depth=depth, seed=depth)
    batch.assert_as_expected(*PATHS[path](batch))


@pytest.mark.slow
@pytest.mark.parametrize("path", DRAWN)
@given(data=st.data())
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_path_agrees_with_float64_for_random_shapes(path, data):
    """Random lengths, windows, layouts, numbers of weightings and shared key heads."""
    heads = data.draw(st.sampled_from([1, 2, 4, 6]), "heads")
    batch = RandomBatch(
        data.draw(st.sampled_from([torch.float32, torch.bfloat16]), "dtype"),
        data.draw(st.lists(st.integers(1, 150), min_size=1, max_size=4), "lengths"),
        heads=heads,
        key_heads=data.draw(st.sampled_from([k for k in (1, 2, heads) if heads % k == 0]), "key heads"),
        depth=data.draw(st.sampled_from([*HEAD_SIZES, 24]), "head size"),
        packed=data.draw(st.booleans(), "packed"),
        window=data.draw(st.none() | st.integers(0, 70), "window"),
        weightings=data.draw(st.integers(0, 3), "weightings"),
        seed=data.draw(st.integers(0, 1000), "seed"),
    )
    batch.assert_as_expected(*PATHS[path](batch))


# ---------------------------------------------------------------- the CUDA path, without a GPU


@pytest.mark.slow
@needs_triton
def test_triton_gives_a_document_the_same_bits_alone_and_among_others():
    """No sum of the kernel depends on the other documents of the batch, and repeating a call changes nothing."""
    together = RandomBatch(torch.bfloat16, [130, 1, 70], heads=3, depth=32, window=50)
    first, again = by_triton(together), by_triton(together)
    assert all(torch.equal(mine, its) for mine, its in zip(first, again, strict=True))
    for _, own, *_ in together.documents():
        alone = RandomBatch(torch.bfloat16, [own.stop - own.start], heads=3, depth=32, window=50)
        alone.q, alone.k, alone.v = (x[:, :, own] for x in (together.q, together.k, together.v))
        alone.weights, alone.sweep = together.weights[:, own], together.sweep[own]
        _, weighted, head_rows, spread = by_triton(alone)
        assert torch.equal(weighted, first[1][:, own])
        assert torch.equal(head_rows, first[2][own])
        assert torch.equal(spread, first[3][own])


@pytest.mark.slow
@needs_triton
def test_triton_skips_rows_of_weight_zero_but_not_of_weight_nan():
    """One-hot weights read one block of each document. `from_300` is NaN in a short document, and only there."""
    batch = RandomBatch(torch.float32, [200, 40, 130], weightings=3, window=20)
    batch.weights.zero_()
    batch.weights[0, [0, 200, 240]] = 1
    batch.weights[1, 150] = 1
    batch.weights[2, 200:240] = torch.nan
    _, weighted, _, _ = found = by_triton(batch)
    batch.assert_as_expected(*found)
    assert weighted[2].isnan().tolist() == [False] * 200 + [True] * 40 + [False] * 130


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("spread", [12.0, 40.0])
def test_triton_survives_large_scores(spread):
    """Scores of several thousand: nothing overflows, and every weighting's sum is preserved."""
    batch = RandomBatch(torch.float32, [90, 70], depth=64, spread=spread)
    _, weighted, head_rows, _ = by_triton(batch)
    _, true, _, _ = batch.expected()
    # float32 scores of several thousand have errors of about 1e-4, and so, relatively, does their exponential.
    torch.testing.assert_close(weighted.double(), true, rtol=5e-3, atol=1e-5)
    assert torch.isfinite(head_rows).all()


def test_the_cuda_path_says_why_it_is_not_used(monkeypatch):
    """Each obstacle has a reason, and no missing device is asked."""

    class Somewhere:
        """The properties of a tensor that `obstacle` reads."""

        def __init__(self, dtype, depth, device="cuda:1"):
            self.dtype, self.shape, self.device = dtype, (1, 2, 5, depth), torch.device(device)

    tried = []

    def why(dtype=torch.bfloat16, depth=64, values=64, device="cuda:1", scale=0.1, window=None):
        x = Somewhere(dtype, depth, device)
        return cuda.obstacle(
            x, x, Somewhere(dtype, values, device), scale, torch.zeros(3, 5), window=window, head_rows=True
        )

    monkeypatch.setattr(cuda, "_disproof", lambda kernels: tried.append(kernels) or "")
    assert why() == ""
    assert why(torch.float16, 128, 128, window=64) == ""
    gpu, common = torch.device("cuda:1"), {"heads": 2, "key_heads": 2, "weightings": 3, "head_rows": True}
    assert tried == [
        cuda.Kernels(device=gpu, dtype=torch.bfloat16, depth=64, windowed=False, keep=False, **common),
        cuda.Kernels(device=gpu, dtype=torch.float16, depth=128, windowed=True, keep=False, **common),
    ]
    assert why(device="cpu") == "no CUDA on cpu"
    assert why(torch.float32) == "flash attention has no float32"
    assert why(depth=20, values=20) == "flash attention has no heads of 20 (values 20)"
    assert why(depth=64, values=32) == "flash attention has no heads of 64 (values 32)"
    assert why(scale=-1.0) == "a scale of -1.0"
    monkeypatch.setattr(cuda, "_disproof", lambda kernels: "RuntimeError: no kernel image")
    assert why() == "RuntimeError: no kernel image"
    monkeypatch.setenv("ATTNSTORE_KERNEL", "off")
    assert why() == "ATTNSTORE_KERNEL=off"


def kernels_of(depth=16, *, device="cpu", windowed=False, head_rows=True, keep=True, heads=4, weightings=2):
    return cuda.Kernels(
        device=torch.device(device), dtype=torch.bfloat16, heads=heads, key_heads=2, depth=depth,
        weightings=weightings, windowed=windowed, head_rows=head_rows, keep=keep,
    )  # fmt: skip


@pytest.mark.sampled(at=(1,))
@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("depth", [16, 80])
def test_the_cuda_path_is_used_only_if_it_agrees_with_the_reference(depth, monkeypatch):
    """The check that a GPU must pass: right results pass, and a log-sum-exp that is 1 % off does not."""

    def off(*arguments):
        output, lse = flash(*arguments)
        return output, lse + 0.01

    def blind(q, k, v, scale, layout, window):
        return flash(q, k, v, scale, layout, None)

    monkeypatch.setattr(cuda, "_flash", flash)
    assert cuda._agrees(kernels_of(depth))
    assert cuda._agrees(kernels_of(depth, windowed=True))
    assert cuda._agrees(kernels_of(depth, weightings=0, head_rows=False))
    monkeypatch.setattr(cuda, "_flash", off)
    assert not cuda._agrees(kernels_of(depth))
    assert not cuda._agrees(kernels_of(depth, weightings=0, head_rows=False))  # but the sweep's step is wrong
    monkeypatch.setattr(cuda, "_flash", blind)
    assert not cuda._agrees(kernels_of(depth, windowed=True))


def test_a_gpu_that_fails_the_check_is_reported(monkeypatch):
    """Too old, in error, or wrong: each is one line. Running out of memory is none of these and is raised."""

    def disproof(capability=(9, 0), agrees=lambda *_: True):
        cuda._disproof.cache_clear()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(cuda, "_agrees", agrees)
        return cuda._disproof(kernels_of(device="cuda:0"))

    def broken(*_):
        raise RuntimeError("failed to find C compiler\nand more")

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    try:
        assert disproof() == ""
        assert disproof((7, 5)) == "flash attention needs compute capability 8.0"
        assert (
            disproof(agrees=lambda *_: False) == "flash attention and the reference disagree on this device"
        )
        assert disproof(agrees=broken) == "RuntimeError: failed to find C compiler"
        with pytest.raises(torch.OutOfMemoryError):
            disproof(agrees=full)
    finally:
        cuda._disproof.cache_clear()


COMPILE = """
import sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from attnstore.engine.paths.column_sums import _column_sums

pointers = {"query": "*bf16", "key": "*bf16", "tiles": "*i32", "scale": "fp32"}
pointers |= dict.fromkeys(("lse", "weights", "sums", "first_rows"), "*fp32")
for weightings, windowed, depth, head_rows in ((0, False, 64, True), (3, True, 80, False)):
    constants = {
        "WEIGHTINGS": weightings, "WEIGHT_BLOCK": max(1, triton.next_power_of_2(weightings)), "DEPTH": depth,
        "DEPTH_BLOCK": triton.next_power_of_2(depth), "WINDOWED": windowed, "HEAD_ROWS": head_rows,
        "WIDEN": False, "QUERY_BLOCK": 64, "KEY_BLOCK": 64,
    }
    names = _column_sums.arg_names
    signature = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in names}
    source = ASTSource(_column_sums, signature, constexprs=constants)
    built = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32))
    on_tensor_cores = any(name in built.asm["ptx"] for name in ("mma", "tcgen05"))
    print(weightings > 0, on_tensor_cores, len(built.asm["cubin"]) > 0)
"""


@pytest.mark.sampled(at=(1,))
@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_triton_compiles_the_kernel_for_every_generation_of_gpus(capability, tmp_path):
    """The compiler may refuse what the interpreter accepts.

    Machine code from Ampere to Blackwell, with tensor cores.
    """
    with Child(COMPILE, capability, TRITON_CACHE_DIR=str(tmp_path)) as child:
        out, err = child.communicate()
    assert out == "False False True\nTrue True True\n", err


#: The part of a GPU's driver that Triton uses before a launch. Kernels are named, not compiled.
NAMED = """
import json, sys, torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from attnstore.engine.paths import column_sums, cuda

class Driver:
    def get_current_target(self): return GPUTarget("cuda", 90, 32)
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0

named = {}
def name(*, key, **_):
    named.setdefault(key, len(named))
    return True

driver.set_active(Driver())
triton.knobs.runtime.jit_cache_hook = name
# On a GPU nothing is widened.
run = column_sums._column_sums.run
column_sums._column_sums.run = lambda *a, WIDEN, **k: run(*a, WIDEN=False, **k)
cuda._flash = lambda q, k, v, scale, layout, window: (torch.zeros_like(q), torch.empty(q.shape[1], q.shape[0]))
counts = []
for heads, key_heads, depth, weightings, windows in json.loads(sys.argv[1]):
    def draw(count, tokens):
        return torch.zeros(1, tokens, count * depth, dtype=torch.bfloat16).view(1, tokens, count, depth).transpose(1, 2)
    for windowed in {window is not None for window in windows}:
        for head_rows in (False, True):
            cuda._agrees(
                cuda.Kernels(
                    torch.device("cpu"), torch.bfloat16, heads, key_heads, depth, weightings, windowed, head_rows, True
                )
            )
    tried = len(named)
    for lengths in ([1], [16] * 2, [512, 500, 3], [100] * 16, [4097]):
        layout = cuda.Layout.of(lengths, torch.device("cpu"), packed=True)
        q, k, v = (draw(count, sum(lengths)) for count in (heads, key_heads, key_heads))
        for window in windows:
            for head_rows in (False, True):
                weights = torch.zeros(weightings, sum(lengths))
                _, layer = cuda.attend(
                    q, k, v, 0.125, layout, weights, window=window, head_rows=head_rows, keep=True
                )
                layer.apply_transposed_mean(weights.new_zeros(sum(lengths)))
    counts.append((tried, len(named) - tried))
    named.clear()
print(json.dumps(counts))
"""


@pytest.mark.slow
@needs_triton
def test_a_run_compiles_no_kernel_that_the_check_has_not_tried():
    """By Triton's own cache key: batches of every size, windows that are multiples of 16 and others, shared key heads.

    There are three kernels (with the first rows, without, and the sweep's step), and twice as many with windows; there
    is none without the first rows if nothing is weighted. The sweep's step is the kernel of one weighting.
    """
    cases = [
        (12, 12, 64, 2, [None]),
        (16, 4, 128, 0, [None, 64, 50]),
        (1, 1, 32, 3, [7, 1]),
        (12, 12, 24, 1, [None]),
    ]
    with Child(NAMED, json.dumps(cases)) as child:
        out, err = child.communicate()
    assert out == "[[3, 0], [4, 0], [3, 0], [2, 0]]\n", err


def test_a_mask_is_read_once_and_a_later_one_at_its_address_again():
    """Every layer of a pass has the same mask. A mask with the memory of an earlier one is not mistaken for it."""
    tap = Tap([2, 3], torch.zeros(0, 5), (), packed=False)
    padding = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    padding[0, :, :2, :2] = padding[1] = True
    causal = padding & torch.ones(3, 3, dtype=torch.bool).tril()
    assert [tap._only_padding(mask) for mask in (padding, padding, causal, causal, padding)] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert tap._unmasked[0] is padding  # kept alive, so that no other mask gets its memory


# ---------------------------------------------------------------- through models


def load(folder, *more, **changes):
    config = RunConfig(
        SourceConfig(""), str(folder), **({"dtype": "float32", "device": "cpu", "max_length": 32} | changes)
    )
    names = ["cls", "received", "rollout", "cls_heads", "from_3"]
    return loading.load_classifier(config, resolve_reductions([*names, *more]))


def tokenised(classifier, texts):
    documents = [Document(text, str(i), None, "all", None) for i, text in enumerate(texts)]
    return list(tokenise(enumerate(documents), classifier.tokenizer, classifier.max_length))


@pytest.mark.sampled(at=(1, 2, 3))
@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("family", ["bert", "modernbert", "gte", "eurobert"])
def test_a_model_on_the_cuda_path_agrees_with_eager_attention(family, tmp_path, monkeypatch):
    """Packed, with a sliding window, padded, and with shared key heads: every column, through the tap's CUDA branch."""
    tiny.save(tmp_path, family)
    classifier = load(tmp_path)
    batch = batch_for(classifier)
    monkeypatch.setattr(kernel, "serves", lambda *_: False)
    monkeypatch.setattr(cuda, "obstacle", lambda *_, **__: "")
    monkeypatch.setattr(cuda, "_flash", flash)
    monkeypatch.setattr(tap, "_on_gpu", lambda _: True)
    calls = []
    monkeypatch.setattr(cuda, "attend", lambda *a, real=cuda.attend, **k: (calls.append(1), real(*a, **k))[1])
    assert_as_eager(classifier(batch), classifier, batch, tmp_path)
    assert len(calls) == classifier.layers


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "modernbert", "gte", "eurobert", "mpnet"])
@pytest.mark.parametrize("block", [1 << 25, 5000], ids=["one group", "several groups"])
def test_a_model_on_a_gpu_without_flash_attention_agrees_with_eager_attention(
    family, block, tmp_path, monkeypatch
):
    """The same, and a model that computes attention itself, with documents side by side and a custom reduction."""
    tiny.save(tmp_path, family)
    classifier = load(tmp_path, loudest)
    batch = batch_for(classifier)
    monkeypatch.setattr(padded, "BLOCK", block)
    monkeypatch.setattr(kernel, "serves", lambda *_: False)
    monkeypatch.setattr(tap, "_on_gpu", lambda _: True)
    for module, name in ((reductions, "attend"), (tap, "attend"), (tap, "reduce_probabilities")):
        monkeypatch.setattr(module, name, None)  # one document after the other
    assert_as_eager(classifier(batch), classifier, batch, tmp_path)


def loudest(probabilities):
    """The largest probability that any head and query gives a token."""
    return probabilities.amax(dim=(0, 1))


def batch_for(classifier):
    texts = ["a", "", "the plot was never boring", "awful movie ! " * 9]
    (batch,) = plan_batches(tokenised(classifier, texts), 1000, padded=classifier.padded)
    return batch


def assert_as_eager(reduced, classifier, batch, folder):
    """Logits and every column of every reduction agree with eager attention, reduced by definition."""
    oracle, start = Oracle(str(folder)), 0
    for row, document in enumerate(batch.documents):
        logits, attentions = oracle(document.ids)
        np.testing.assert_allclose(reduced.logits[row], logits, atol=1e-4)
        for reduction in classifier.reductions:
            if reduction.name == "loudest":
                values = np.stack([p.max(axis=(0, 1)) for p in attentions])
            else:
                values = reduced_by_definition(attentions, reduction.name)
            by_column = values if reduction.stored.per_layer else values[None]
            for name, true in zip(reduction.stored.columns(classifier.layers), by_column, strict=True):
                own = reduced.columns[name][start : start + document.length]
                np.testing.assert_allclose(own, true, atol=1e-5, err_msg=name)
        start += document.length


@pytest.mark.parametrize("of", ["documents", "heads"])
def test_padded_documents_respect_masks(of):
    """A mask per document, or per head for all documents: the results are those of one document at a time."""
    lengths, heads, depth = [9, 5, 1, 7], 2, 8
    draw = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(sum(lengths), heads, depth, generator=draw) for _ in range(3))
    weights = torch.rand(2, sum(lengths), generator=draw)
    step = torch.rand(sum(lengths), generator=draw)
    shape = (len(lengths), 1, 11, 11) if of == "documents" else (1, heads, 11, 11)
    mask = (torch.rand(*shape, generator=draw) < 0.6) | torch.eye(11, dtype=torch.bool)
    groups = padded.groups_of(lengths, heads, q.device, 200)
    assert [group.lengths for group in groups] == [(9,), (5, 1), (7,)]
    output, layer = padded.attend(
        q, k, v, 0.3, groups, weights, mask=mask, head_rows=True, keep=True,
        custom=[[loudest]] * len(lengths), block=200,
    )  # fmt: skip
    start, documents = 0, []
    for i, n in enumerate(lengths):
        own = slice(start, start + n)
        documents.append(
            attend(
                *(x[own].transpose(0, 1) for x in (q, k, v)),
                0.3,
                weights[:, own],
                allowed=mask[i if of == "documents" else 0, :, :n, :n],
                head_rows=True,
                custom=[loudest],
                trace=True,
            )
        )
        torch.testing.assert_close(output[own], documents[-1].output.transpose(0, 1))
        start += n
    expected = join(documents)
    torch.testing.assert_close(layer.weighted, expected.weighted)
    torch.testing.assert_close(layer.head_rows, expected.head_rows)
    torch.testing.assert_close(layer.custom, expected.custom)
    torch.testing.assert_close(layer.apply_transposed_mean(step), expected.apply_transposed_mean(step))


def test_a_run_on_a_gpu_records_its_path(tiny_model):
    """`info` shows the CUDA path, or torch and the reason."""
    classifier = load(tiny_model)
    classifier.device = torch.device("cuda")
    assert classifier.kernel == "flash attention with log-sum-exp, Triton column sums"
    classifier._obstacle = "flash attention has no float32"
    assert classifier.kernel == "torch: flash attention has no float32"


class Largest(TorchDispatchMode):
    """Records the largest number of elements in any operation's result."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                size = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.elements = max(self.elements, size)
        return result


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False])
def test_no_tensor_is_quadratic_in_a_long_document(compiled, tmp_path, monkeypatch):
    """1,024 and 4,096 tokens through a ModernBERT: four times the length gives a largest tensor of four times the size.

    Without the C++ kernel there are also blocks of probabilities of fixed size; neither path holds 1,024² values.
    """
    if compiled and not kernel.path(torch.float32).startswith("c++"):
        pytest.skip(kernel.path(torch.float32))
    if not compiled:
        monkeypatch.setenv("ATTNSTORE_KERNEL", "off")
        monkeypatch.setitem(attend.__kwdefaults__, "block", 1 << 16)
        monkeypatch.setattr(reductions, "BLOCK", 1 << 16)
    tiny.save(tmp_path, "modernbert", max_position_embeddings=4096)
    largest = {}
    for length in (1024, 4096) if compiled else (1024,):
        classifier = load(tmp_path, max_length=length)
        (batch,) = plan_batches(
            tokenised(classifier, ["good film ! " * length]), length, padded=classifier.padded
        )
        assert batch.lengths == [length]
        with Largest() as seen:
            reduced = classifier(batch)
        assert float(reduced.columns["rollout"].sum()) == pytest.approx(1.0, abs=1e-4)
        largest[length] = seen.elements
    assert largest[1024] < 1024**2 // 4
    if compiled:
        assert largest[4096] <= 4 * largest[1024]
