"""The mathematics of the reductions, against brute force in float64 and against results worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnstore.check.oracle import reduced_by_definition
from attnstore.engine.reductions import (
    BUILT_IN,
    LayerTrace,
    attend,
    custom_reduction,
    one_hot,
    probabilities,
    reduce_probabilities,
    resolve_reductions,
    rollout,
)
from attnstore.errors import UsageError


def brute_force(query, key, scale, window=None):
    """(heads, n, n) float64 probabilities, one row at a time."""
    q, k = query.double().numpy(), key.double().numpy()
    heads, n, _ = q.shape
    p = np.zeros((heads, n, n))
    for h in range(heads):
        for i in range(n):
            reach = [j for j in range(n) if window is None or abs(i - j) <= window]
            scores = np.array([q[h, i] @ k[h, j] * scale for j in reach])
            e = np.exp(scores - scores.max())
            p[h, i, reach] = e / e.sum()
    return p


def random_attention(seed, heads, n, depth, value_depth=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(heads, n, depth), (heads, n, depth), (heads, n, value_depth or depth)]
    return [torch.randn(s, generator=generator).mul(1.5).to(dtype) for s in shapes]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    heads=st.integers(1, 5),
    n=st.integers(1, 40),
    depth=st.sampled_from([1, 8, 16, 32]),
    block=st.sampled_from([1, 7, 64, 1 << 22]),
    window=st.sampled_from([None, 0, 3]),
    half=st.booleans(),
)
def test_any_shape_in_any_blocks_agrees_with_a_brute_force_loop(seed, heads, n, depth, block, window, half):
    """Output, weighted sums and head rows are right to 1e-5 for any shape, block size and dtype of q, k."""
    dtype = torch.bfloat16 if half else torch.float32
    query, key, value = random_attention(seed, heads, n, depth, dtype=dtype)
    weights = torch.rand(3, n, generator=torch.Generator().manual_seed(seed))
    found = attend(
        query, key, value, depth**-0.5, weights, window=window, head_rows=True, trace=True, block=block
    )
    p = brute_force(query, key, depth**-0.5, window)
    np.testing.assert_allclose(found.weighted, weights.double().numpy() @ p.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.head_rows, p[:, 0], atol=1e-5)
    expected = p @ value.double().numpy()
    # In bfloat16 the probabilities are rounded before they multiply v: an error of at most 2⁻⁸ of the largest value.
    tolerance = 2**-7 * max(1.0, float(value.abs().max())) if half else 1e-5
    np.testing.assert_allclose(found.output.double(), expected, atol=tolerance)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 24),
    layers=st.integers(1, 4),
    depth=st.sampled_from([1, 8]),
    window=st.sampled_from([None, 0, 2]),
    block=st.sampled_from([5, 60]),
)
def test_the_sweep_equals_the_product_of_matrices_of_the_paper(seed, n, layers, depth, window, block):
    """Rollout from the top layer down, with P̄ kept (n ≤ 2·heads·depth) or computed again, is the dense product's first
    row. Every second layer here is local, which makes no difference.
    """
    heads, traces, dense = 3, [], []
    for layer in range(layers):
        query, key, value = random_attention(seed + layer, heads, n, depth)
        own = window if layer % 2 else None
        none = torch.zeros(0, n)
        traces.append(attend(query, key, value, 1.0, none, window=own, trace=True, block=block).trace)
        dense.append(brute_force(query, key, 1.0, own))
    assert all((t.mean is not None) == (n <= 2 * heads * depth) for t in traces)
    found = rollout(traces, block=block)
    np.testing.assert_allclose(found, reduced_by_definition(dense, "rollout"), atol=1e-6)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_local_layers_cost_depends_on_its_window(monkeypatch):
    """With a window of 10, each row of 600 tokens needs 21 columns, and at most 41 are computed, in both passes.

    No block is larger than asked for.
    """
    sizes = []

    def counting(*args, **kwargs):
        p = probabilities(*args, **kwargs)
        sizes.append(p.numel())
        return p

    monkeypatch.setattr("attnstore.engine.reductions.probabilities", counting)
    heads, n, window, block = 2, 600, 10, 1500
    query, key, value = random_attention(3, heads, n, 4)
    trace = attend(query, key, value, 0.5, torch.rand(2, n), window=window, trace=True, block=block).trace
    assert trace.mean is None  # so the sweep computes everything again
    rollout([trace], block=block)
    assert max(sizes) <= block
    assert 2 * heads * n * 20 <= sum(sizes) <= 2 * heads * n * (4 * window + 1)


def test_a_worked_example_of_two_tokens_and_two_layers():
    """Derived by hand: P̄₁ = [[¾,¼],[½,½]], P̄₂ = [[½,½],[¼,¾]]; w₂ = (¾,¼), w₁ = (25/32, 7/32)."""
    first = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    second = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    # w = e0; layer 2: ½(1,0) + ½(½,½) = (¾,¼); layer 1: ½(¾,¼) + ½(¾·¾+¼·½, ¾·¼+¼·½) = (23/32, 9/32)
    found = rollout([LayerTrace(mean=first), LayerTrace(mean=second)])
    assert found.tolist() == [23 / 32, 9 / 32]


def test_every_reduction_of_weights_that_sum_to_one_sums_to_one():
    """Σ_j out_j = Σ_i w_i, so cls and received are distributions over the document's tokens."""
    query, key, value = random_attention(1, 4, 33, 16)
    weights = torch.from_numpy(np.stack([one_hot(0, 33), np.full(33, 1 / 33, np.float32), one_hot(32, 33)]))
    found = attend(query, key, value, 0.25, weights)
    np.testing.assert_allclose(found.weighted.sum(1), [1, 1, 1], atol=1e-5)


def test_a_mask_hides_what_it_says_and_nothing_else():
    """`allowed` may differ between heads. Hidden columns get exactly zero, and the rest are renormalised."""
    query, key, value = random_attention(2, 2, 9, 8)
    allowed = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(3)) < 0.6
    allowed |= torch.eye(9, dtype=torch.bool)
    p = probabilities(query, key, 0.5, allowed=allowed)
    scores = (query.double() @ key.double().transpose(1, 2) * 0.5).numpy()
    e = np.exp(scores) * allowed.numpy()
    np.testing.assert_allclose(p, e / e.sum(-1, keepdims=True), atol=1e-6)
    assert (p[~allowed] == 0).all()
    blocks = attend(query, key, value, 0.5, torch.full((1, 9), 1 / 9), allowed=allowed, trace=True, block=20)
    np.testing.assert_allclose(blocks.weighted[0], (e / e.sum(-1, keepdims=True)).mean((0, 1)), atol=1e-6)


def test_probabilities_computed_by_a_model_reduce_to_the_same():
    """The hooked path and the tapped path agree."""
    query, key, value = random_attention(5, 3, 12, 8)
    weights = torch.rand(2, 12)

    def spread(p):
        return p.amax(dim=(0, 1))

    tapped = attend(query, key, value, 0.3, weights, head_rows=True, custom=[spread], trace=True)
    p = probabilities(query, key, 0.3)
    hooked = reduce_probabilities(p, weights, head_rows=True, custom=[spread], trace=True)
    np.testing.assert_allclose(tapped.weighted, hooked.weighted, atol=1e-6)
    np.testing.assert_allclose(tapped.head_rows, hooked.head_rows, atol=1e-6)
    np.testing.assert_allclose(tapped.custom[0], hooked.custom[0], atol=1e-6)
    np.testing.assert_allclose(tapped.trace.mean, hooked.trace.mean, atol=1e-6)


def test_a_chosen_token_that_a_short_document_lacks_gives_nan():
    """from_<t> is NaN in a document of t tokens or fewer, not an invented zero."""
    (reduction,) = resolve_reductions(["from_3"])
    assert np.isnan(one_hot(3, 3)).all()
    assert one_hot(3, 4).tolist() == [0, 0, 0, 1]
    assert reduction.stored.columns(2) == ["from_3_01", "from_3_02"]


def by_length(document):
    """Queries weighted by the length of their token."""
    return np.array([len(t) for t in document.tokens], dtype=np.float32)


def strongest(probabilities):
    return probabilities.amax(dim=(0, 1))


def test_the_kind_of_a_custom_function_follows_from_its_parameters_name():
    """`document` makes row weights, `probabilities` a function of a layer. The docstring is the description."""
    rows, layer = custom_reduction(by_length), custom_reduction(strongest)
    assert (rows.name, rows.row_weights, rows.of_probabilities) == ("by_length", by_length, None)
    assert rows.stored.meaning == "Queries weighted by the length of their token."
    assert (layer.row_weights, layer.of_probabilities) == (None, strongest)
    assert layer.stored.meaning == "custom reduction test_reductions:strongest"
    assert layer.stored.total is None


def test_a_custom_reduction_is_identified_by_its_source(monkeypatch, tmp_path):
    """Functions of the same name but with different code are different runs."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_a.py").write_text("def mine(probabilities):\n    return probabilities.sum((0, 1))\n")
    (tmp_path / "mine_b.py").write_text("def mine(probabilities):\n    return probabilities.mean((0, 1))\n")
    (one,), (other,) = resolve_reductions(["mine_a:mine"]), resolve_reductions(["mine_b:mine"])
    assert one.name == other.name == "mine"
    assert one.identity != other.identity
    assert resolve_reductions(["mine_a:mine"])[0].identity == one.identity


def unusable(one, two):
    return one, two


def cls_lift(document):
    return document


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "no reduction is given: choose from cls, received, rollout, cls_heads"),
        (["cls", "cls"], "the reduction cls is listed twice: name each once"),
        (["clss"], "there is no reduction 'clss': choose from"),
        (
            ["nowhere.to:be_found"],
            "can't import nowhere.to for the reduction nowhere.to:be_found: No module named",
        ),
        (["os:no_such_function"], "the module os has no function 'no_such_function'"),
        (["os:sep"], "the module os has no function 'sep'"),
        ([unusable], "the custom reduction unusable takes (one, two): its one parameter must be called"),
        (
            [lambda document: document],
            "a custom reduction is stored under its function's name, and '<lambda>'",
        ),
        ([cls_lift], "no name that ends in '_lift', which the totals give to another column"),
    ],
)
def test_invalid_reductions_are_reported_in_one_line(asked, message):
    """Unknown names, unknown modules and unusable functions each give a line that says what to do."""
    with pytest.raises(UsageError) as raised:
        resolve_reductions(asked)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_built_in_names_are_those_of_the_documentation():
    """Stores have columns with these names, so they are a promise."""
    assert list(BUILT_IN) == [
        "cls",
        "received",
        "rollout",
        "cls_heads",
        "evidence",
        "norm",
        "relevance",
        "evidence_by_class",
    ]
    assert BUILT_IN["cls"].stored.columns(2) == ["cls_01", "cls_02"]
    assert BUILT_IN["rollout"].stored.columns(2) == ["rollout"]
