"""The CPU kernel against float64 results from the same q, k and v, and the cases in which it is not used."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_batch import RandomBatch

from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.engine.batches import plan_batches, tokenise
from attnstore.engine.loading import load_classifier
from attnstore.engine.paths import compiler, kernel
from attnstore.engine.paths.kernel import Workspace
from attnstore.engine.reductions import resolve_reductions
from attnstore.errors import UsageError

ROOT = Path(__file__).parents[3]
HEAD_SIZES = [8, 16, 32, 64, 80, 96, 128]
ENGINES = {
    **{products: (torch.bfloat16, number) for number, products in enumerate(kernel.PRODUCTS)},
    "float32": (torch.float32, 0),
}

here = kernel.path(torch.float32)
needs_kernel = pytest.mark.skipif(not here.startswith("c++"), reason=here)


def engines():
    """The ways to multiply on this machine: not every processor has AMX, or multiplies bfloat16 at all."""
    fastest = kernel._loaded().products
    return [
        name for name, (dtype, products) in ENGINES.items() if dtype == torch.float32 or products <= fastest
    ]


class Case(RandomBatch):
    """A random batch, and what the kernel computes from it."""

    def __init__(self, engine, lengths, **shape):
        dtype, self.products = ENGINES[engine]
        super().__init__(dtype, lengths, **shape)
        self.workspace = Workspace()

    def run(self, **changes):
        """(output, weighted, head_rows, transposed mean times the sweep vector) from the kernel."""
        arguments = {
            "window": self.window,
            "head_rows": True,
            "keep": self.workspace,
            "products": self.products,
        } | changes
        output, layer = kernel.attend(
            self.q, self.k, self.v, self.scale, self.places, self.weights, **arguments
        )
        return output, layer.weighted, layer.head_rows, layer.apply_transposed_mean(self.sweep)

    def check(self):
        self.assert_as_expected(*self.run())


@pytest.mark.slow
@needs_kernel
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_batches_agree_with_float64(data):
    """All four results are right for any lengths, head sizes, window, layout, weightings and shared key heads."""
    heads = data.draw(st.sampled_from([1, 2, 3, 4, 6]), "heads")
    Case(
        data.draw(st.sampled_from(engines()), "engine"),
        data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=5), "lengths"),
        heads=heads,
        key_heads=data.draw(st.sampled_from([k for k in (1, 2, 3, heads) if heads % k == 0]), "key heads"),
        depth=data.draw(st.sampled_from([*HEAD_SIZES, 5, 24]), "head size"),
        value_depth=data.draw(st.sampled_from([*HEAD_SIZES, 5, 24]), "value size"),
        packed=data.draw(st.booleans(), "packed"),
        window=data.draw(st.none() | st.integers(0, 70), "window"),
        weightings=data.draw(st.integers(0, 3), "weightings"),
        seed=data.draw(st.integers(0, 1000), "seed"),
    ).check()


@needs_kernel
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("depth", HEAD_SIZES)
def test_every_head_size_in_use(engine, depth):
    """The head sizes of existing encoders, with documents that begin and end inside a block of rows."""
    if engine not in engines():
        pytest.skip(f"no {engine} here")
    Case(engine, [1, 31, 32, 33, 64, 65, 150], heads=3, depth=depth).check()


@needs_kernel
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("window", [None, 0, 37, 128])
def test_a_long_document_is_split_among_threads(engine, window):
    """Beside short ones, with and without a window, and with the sweep computed from q and k again."""
    if engine not in engines():
        pytest.skip(f"no {engine} here")
    Case(engine, [5, 1100, 64], heads=2, depth=16, window=window).check()


@needs_kernel
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("window", [None, 20])
def test_results_do_not_depend_on_the_number_of_threads(engine, window):
    """The same call twice, and with one, two and three threads: every bit is equal."""
    if engine not in engines():
        pytest.skip(f"no {engine} here")
    case = Case(engine, [700, 3, 130, 129, 1], heads=2, depth=16, window=window)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (2, 2, 1, 3):
            torch.set_num_threads(threads)
            results.append(case.run(keep=Workspace()))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for mine, its in zip(results[0], other, strict=True):
            assert torch.equal(mine, its)


@needs_kernel
@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_gives_what_its_documents_give_alone(engine):
    """Batching, packing and padding change no bit."""
    if engine not in engines():
        pytest.skip(f"no {engine} here")
    lengths = [200, 33, 1, 90]
    packed = Case(engine, lengths, heads=3, depth=32)
    output, weighted, head_rows, spread = packed.run()
    start = 0
    for n in lengths:
        own = slice(start, start + n)
        alone = Case(engine, [n], heads=3, depth=32)
        alone.q, alone.k, alone.v = (x[:, :, own] for x in (packed.q, packed.k, packed.v))
        alone.weights, alone.sweep = packed.weights[:, own], packed.sweep[own]
        for whole, part in zip(
            (output[:, own], weighted[:, own], head_rows[own], spread[own]), alone.run(), strict=True
        ):
            assert torch.equal(whole, part)
        start += n


@needs_kernel
@pytest.mark.parametrize("engine", ENGINES)
def test_a_nan_weighting_affects_only_its_own_document(engine):
    """`from_300` is NaN in a document of 40 tokens, and nowhere else."""
    if engine not in engines():
        pytest.skip(f"no {engine} here")
    case = Case(engine, [40, 60], weightings=3)
    case.weights[1, :40] = torch.nan
    case.check()
    _, weighted, _, _ = case.run()
    assert weighted.isnan().tolist() == [[False] * 100, [True] * 40 + [False] * 60, [False] * 100]


@needs_kernel
@pytest.mark.parametrize("engine", ENGINES)
def test_large_scores_neither_overflow_nor_vanish(engine):
    """Scores of several hundred, whose exponential overflows unless the row's maximum is subtracted."""
    if engine not in engines():
        pytest.skip(f"no {engine} here")
    case = Case(engine, [50, 70], depth=64, spread=12.0)
    output, weighted, head_rows, spread = case.run()
    true_output, true_weighted, true_head_rows, true_spread = case.expected()
    largest = case.v.abs().max().item()
    torch.testing.assert_close(output.double(), true_output, rtol=2**-8, atol=2**-8 * largest)
    # float32 scores of several hundred have errors of about 1e-5, and so, relatively, does their exponential.
    for got, true in ((weighted, true_weighted), (head_rows, true_head_rows), (spread, true_spread)):
        torch.testing.assert_close(got.double(), true, rtol=1e-3, atol=1e-6)


@needs_kernel
def test_memory_kept_for_the_sweep_is_linear_in_the_length():
    """A head mean is kept only if it is not larger than q and k, so never more than 2·n·heads·d values."""
    for n, kept in ((40, 40 * 64 * 4), (64, 64 * 64 * 4), (65, 0), (1000, 0)):
        case = Case("float32", [n], heads=2, depth=16)
        case.run()
        assert case.workspace.buffer(0, 0).numel() == kept
        assert kept <= 2 * n * 2 * 16 * 4
    # With a window, a head mean is a band, and can be kept for any length.
    case = Case("float32", [1000], heads=4, depth=64, window=8)
    case.run()
    assert 0 < case.workspace.buffer(0, 0).numel() <= 2 * 1000 * 4 * 64 * 4


@needs_kernel
def test_innermost_strides_other_than_one_are_copied():
    """The memory layout does not change the result."""
    case = Case("float32", [30, 20], heads=2, depth=16)
    straight = case.run()
    for name in "qkv":
        turned = getattr(case, name).transpose(2, 3).contiguous().transpose(2, 3)
        assert turned.stride(-1) != 1
        setattr(case, name, turned)
    for mine, its in zip(straight, case.run(), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.slow
@needs_kernel
def test_the_kernel_uses_torchs_thread_pool():
    """Only one OpenMP runtime is loaded, and torch's thread settings stay the same."""
    code = """
import torch
torch.set_num_threads(2)
from attnstore.engine.paths import kernel
from attnstore.engine.paths.kernel import Places
x = torch.randn(1, 2, 50, 16)
kernel.attend(x, x, x, 0.25, Places.of([50], packed=True), torch.rand(1, 50))
maps = open("/proc/self/maps").read().splitlines()
print(torch.get_num_threads(), len({m.split()[-1] for m in maps if "libgomp" in m or "libiomp" in m or "libomp" in m}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["2", "1"]


def test_torch_computes_what_the_kernel_does_not_support(monkeypatch):
    """Half precision, mixed dtypes, other devices and scales that are not positive; and everything if the kernel is
    off.
    """
    x = torch.zeros(1, 1, 4, 8)
    assert kernel.serves(x, x, x, 1.0) == here.startswith("c++")
    assert not kernel.serves(x.half(), x.half(), x.half(), 1.0)
    assert not kernel.serves(x, x, x.bfloat16(), 1.0)
    assert not kernel.serves(x.to("meta"), x.to("meta"), x.to("meta"), 1.0)
    assert not kernel.serves(x, x, x, -1.0)
    monkeypatch.setenv("ATTNSTORE_KERNEL", "off")
    assert not kernel.serves(x, x, x, 1.0)
    assert kernel.path() == "torch: ATTNSTORE_KERNEL=off"


@pytest.fixture
def reload(monkeypatch, tmp_path):
    """Load the kernel again with an empty cache; restore the loaded one afterwards."""
    monkeypatch.setenv("ATTNSTORE_CACHE", str(tmp_path))
    forget()
    yield kernel.path
    monkeypatch.undo()
    forget()


def forget():
    """Forget what was loaded, as in a new process."""
    compiler._begun.cache_clear()
    kernel._load.cache_clear()


@pytest.mark.slow
def test_compiling_ahead_happens_once_and_is_waited_for(reload, monkeypatch, tmp_path):
    """`start` returns before the compiler ends. Whoever then wants the library gets it from the same compilation."""
    slow = fake_compiler(tmp_path / "fake", 'echo x >> "$(dirname "$0")/calls"; sleep 0.3; echo whole >')
    monkeypatch.setenv("CXX", str(slow))
    for gpu in ("cuda", "cuda:1", "mps"):
        compiler.start(gpu)
    assert compiler._begun.cache_info().currsize == 0  # not needed on a GPU
    compiler.start("auto")
    assert not list(tmp_path.glob("*.so"))
    library = compiler.library("")
    assert library.read_bytes() == with_digest(b"whole\n")
    assert (tmp_path / "calls").read_text() == "x\nx\n"  # compiles, and links
    assert library == compiler.library("")


def test_torch_is_used_without_a_compiler(reload, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert reload() == "torch: no C++ compiler"


def test_a_compiler_that_fails_leaves_nothing_behind(reload, monkeypatch, tmp_path):
    """The reason is the compiler's first error, and the cache stays empty."""
    broken = script(
        tmp_path / "broken", 'echo "warning: dull" >&2; echo "kernel.cpp:1: error: no AVX-512" >&2; exit 1'
    )
    monkeypatch.setenv("CXX", str(broken))
    assert reload() == f"torch: {broken} can't compile the kernel: kernel.cpp:1: error: no AVX-512"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken"]


def test_a_library_that_can_not_be_loaded_is_reported(reload, monkeypatch, tmp_path):
    """The compiler writes something that is not a library."""
    monkeypatch.setenv("CXX", str(fake_compiler(tmp_path / "fake", "echo no library >")))
    assert reload().startswith("torch: the kernel can't be loaded: ")


def test_an_unwritable_cache_is_reported(reload, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATTNSTORE_CACHE", str(tmp_path / "file"))
    assert reload().startswith("torch: the kernel can't be loaded: ")


def test_a_library_that_others_can_write_is_not_run(reload, monkeypatch, tmp_path):
    """Anyone could put code into such a cache."""
    monkeypatch.setenv("CXX", str(fake_compiler(tmp_path / "fake", "echo >")))
    reload()
    (library,) = tmp_path.glob("kernel-*.so")
    library.chmod(0o666)
    forget()
    assert reload() == f"torch: {library} can be written by others"


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: c[:40], lambda c: b"", lambda c: b"x" + c[1:]]
)
def test_a_damaged_library_in_the_cache_is_built_again(reload, monkeypatch, tmp_path, damage):
    """Loading a truncated library would end this process and every later one. An intact library is left as it is."""
    program = fake_compiler(
        tmp_path / "fake", 'echo x >> "$(dirname "$0")/calls"; echo a library that is long >'
    )
    monkeypatch.setenv("CXX", str(program))
    library = compiler.library("")
    whole = library.read_bytes()
    assert whole == with_digest(b"a library that is long\n")
    for content, calls in ((whole, 2), (damage(whole), 4)):
        library.write_bytes(content)
        forget()
        assert compiler.library("").read_bytes() == whole
        assert (tmp_path / "calls").read_text() == "x\n" * calls


@pytest.mark.slow
@needs_kernel
def test_a_library_with_an_appended_digest_is_loaded(reload, tmp_path):
    """With the real library: loaders ignore what follows the last section. A truncated one is built again."""
    before = reload(torch.float32)
    assert not before.startswith("torch")
    (library,) = tmp_path.glob("kernel-*.so")
    content = library.read_bytes()
    assert content == with_digest(content[:-32])
    replaced = tmp_path / "cut"
    replaced.write_bytes(content[:5000])
    replaced.chmod(0o755)
    replaced.replace(library)  # not in place, because this process has the complete one open
    forget()
    assert reload(torch.float32) == before


def test_a_processor_without_wide_registers_uses_torch(reload, monkeypatch):
    monkeypatch.setattr(compiler, "_processor", lambda: "fpu sse2 avx")
    assert reload() == "torch: the processor has none of AVX-512, AVX2 and NEON"
    monkeypatch.setenv("ATTNSTORE_KERNEL", "avx2")
    assert reload() == "torch: the processor lacks what ATTNSTORE_KERNEL=avx2 needs"


@pytest.mark.slow
@needs_kernel
def test_a_library_without_bfloat16_refuses_it(reload, monkeypatch):
    """The AVX2 library returns an error instead of reading bfloat16 as another type."""
    monkeypatch.delenv("ATTNSTORE_CACHE")  # where it may have been built already
    monkeypatch.setenv("ATTNSTORE_KERNEL", "avx2")
    if reload(torch.float32) != "c++ kernel, AVX2 float32":
        pytest.skip(reload(torch.float32))
    x = torch.zeros(1, 1, 4, 8, dtype=torch.bfloat16)
    assert not kernel.serves(x, x, x, 1.0)
    with pytest.raises(RuntimeError, match="does not multiply bfloat16"):
        kernel.attend(x, x, x, 1.0, kernel.Places.of([4], packed=True), torch.zeros(1, 4))


def test_an_unknown_kernel_setting_is_refused(reload, monkeypatch):
    """If it were ignored, a user who mistyped `off` would get the kernel."""
    monkeypatch.setenv("ATTNSTORE_KERNEL", "of")
    with pytest.raises(
        UsageError, match="ATTNSTORE_KERNEL=of is not known: use off, neon, avx2, avx512, amx, or unset it"
    ):
        compiler.start("cpu")


def test_another_system_uses_torch(reload, monkeypatch):
    monkeypatch.setattr(compiler.platform, "system", lambda: "Darwin")
    assert reload() == "torch: the kernel needs Linux on x86-64 or ARM64"


def test_several_processes_may_build_at_once(tmp_path):
    """The last one replaces a complete library by a complete library, and no working folder is left."""
    program = fake_compiler(tmp_path / "fake", 'head -c 1000000 /dev/zero > "$o"; sleep 0.1; echo whole >>')
    cache = tmp_path / "cache"
    library = cache / "kernel-x.so"
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(compiler._build, [str(program)], [], library) for _ in range(6)]:
            done.result()
    assert library.read_bytes() == with_digest(bytes(1000000) + b"whole\n")
    assert list(cache.iterdir()) == [library]


def with_digest(content):
    return content + hashlib.sha256(content).digest()


def script(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def fake_compiler(path, write):
    """A compiler that runs `write "$o"`, where $o is the argument after -o."""
    return script(path, f'while [ $# -gt 0 ]; do [ "$1" = -o ] && o=$2; shift; done\n{write} "$o"')


@needs_kernel
@pytest.mark.parametrize("family", ["bert", "modernbert", "gte", "eurobert"])
def test_a_model_gives_the_same_with_and_without_the_kernel(family, tmp_path, monkeypatch):
    """Packed, with a sliding window, padded, and with shared key heads: every column and the logits agree."""
    tiny.save(tmp_path, family)
    texts = ["a", "", "the plot was never boring and the actor was great", "awful movie ! " * 9]
    documents = [Document(t, str(i), None, "all", None) for i, t in enumerate(texts)]
    config = RunConfig(SourceConfig(""), str(tmp_path), dtype="float32", device="cpu", max_length=32)
    classifier = load_classifier(
        config, resolve_reductions(["cls", "received", "rollout", "cls_heads", "from_3"])
    )
    tokenised = list(tokenise(enumerate(documents), classifier.tokenizer, classifier.max_length))
    (batch,) = plan_batches(tokenised, 1000, padded=classifier.padded)
    assert classifier.kernel.startswith("c++ kernel")
    with_kernel = classifier(batch)
    monkeypatch.setenv("ATTNSTORE_KERNEL", "off")
    assert classifier.kernel == "torch: ATTNSTORE_KERNEL=off"
    without = classifier(batch)
    torch.testing.assert_close(with_kernel.logits, without.logits, rtol=1e-4, atol=1e-4)
    assert with_kernel.columns.keys() == without.columns.keys()
    for name, values in with_kernel.columns.items():
        torch.testing.assert_close(values, without.columns[name], rtol=1e-3, atol=1e-5, equal_nan=True)
