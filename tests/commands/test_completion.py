"""What a shell completes while a command line is typed."""

import pytest
from click.shell_completion import ShellComplete

from attnstore.ask.questions import find_questions
from attnstore.commands.group import attnstore


def completed(*words):
    """The completions of the last word."""
    shell = ShellComplete(attnstore, {}, "attnstore", "_ATTNSTORE_COMPLETE")
    return [item.value for item in shell.get_completions([str(w) for w in words[:-1]], words[-1])]


def test_questions_are_completed_with_their_descriptions(small_store):
    """All of them, those that match, and a user's own; for every command that takes a question."""
    assert completed("query", small_store, "") == list(find_questions())
    assert completed("queries", "top_") == ["top_tokens_by_class", "top_words_by_class"]
    assert completed("plot", small_store, "conf") == ["confusion"]


def test_parameters_are_completed_with_their_defaults_then_with_their_values(small_store):
    """Parameters not given yet. Values are those that the store or the question knows."""
    ask = ("query", small_store, "top_words_by_class")
    assert completed(*ask, "-p", "l") == ["layer=last", "limit=20"]
    assert completed(*ask, "-p", "limit=5", "-p", "l") == ["layer=last"]
    assert completed(*ask, "-p", "reduction=r") == ["reduction=received", "reduction=rollout"]
    assert completed(*ask, "-p", "layer=") == [f"layer={v}" for v in ("first", "last", "mean", 1, 2, 3)]
    assert completed(*ask, "-p", "by=") == ["by=prediction", "by=label"]
    assert completed(*ask, "-p", "intervals=t") == ["intervals=true"]
    assert completed("query", small_store, "heads", "-p", "reduction=") == ["reduction=cls_heads"]
    assert completed("query", small_store, "find_documents", "-p", "prediction=") == [
        "prediction=neg", "prediction=pos",
    ]  # fmt: skip
    assert completed("query", small_store, "contexts", "-p", "w") == ["word=", "width=8"]
    assert completed("query", small_store, "document_tokens", "-p", "document=r5") == [
        "document=r5", *(f"document=r5{n}" for n in range(10)),
    ]  # fmt: skip


def test_documents_reductions_layers_and_classes_are_completed(small_store):
    """For `show` and `plot`, from the store named before."""
    assert completed("show", small_store, "r5") == ["r5", *(f"r5{n}" for n in range(10))]
    assert completed("show", small_store, "r1", "--reduction", "cls") == ["cls", "cls_heads"]
    assert completed("show", small_store, "r1", "--layer", "") == [
        "first",
        "last",
        "mean",
        "best",
        "1",
        "2",
        "3",
    ]
    assert completed("plot", small_store, "confusion", "--class", "") == ["neg", "pos"]


@pytest.mark.parametrize(
    "words",
    [
        ("show", "nowhere.attn", ""),
        ("query", "nowhere.attn", "contexts", "-p", "reduction="),
        ("query", "nowhere.attn", "nosuch", "-p", ""),
        ("query", "nowhere.attn", "contexts", "-p", "nosuch="),
        ("queries", "--queries", "nowhere", ""),
    ],
)
def test_without_completions_nothing_is_printed(words, capsys):
    """Without a store or a question, nothing is offered, and no error appears on the command line."""
    assert completed(*words) == []
    assert capsys.readouterr() == ("", "")
