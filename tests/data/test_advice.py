"""What is proposed as `--labels` after a run; what is advised before it, `test_labels` says."""

import itertools

from attnstore.data.advice import best_assignment

LABEL_4 = [f"LABEL_{n}" for n in range(4)]


def test_the_best_assignment() -> None:
    """Of all ways to give each label a class of its own, the one with the most agreements: all are tried."""
    counts = {
        ("a", "LABEL_0"): 3,
        ("a", "LABEL_1"): 4,
        ("b", "LABEL_1"): 4,
        ("b", "LABEL_2"): 1,
        ("c", "LABEL_0"): 2,
    }
    option, agreeing = best_assignment(counts, LABEL_4[:3])
    ways = {
        way: sum(counts.get((label, LABEL_4[index]), 0) for index, label in enumerate(way))
        for way in itertools.permutations("abc")
    }
    assert (agreeing, option) == (max(ways.values()), ",".join(max(ways, key=lambda way: ways[way])))
    assert option == "a,b,c"


def test_more_labels_than_classes() -> None:
    """A label left over goes to nothing; a comma in a name is quoted as --labels reads it."""
    counts = {("x, y", "neg"): 5, ("z", "pos"): 3, ("w", "pos"): 1}
    assert best_assignment(counts, ["neg", "pos"]) == ('w=,"x, y=neg",z=pos', 8)


def test_fewer_labels_than_classes() -> None:
    """Then no class can be named by the list, and the labels go by pairs."""
    assert best_assignment({("bad", "LABEL_2"): 2, ("good", "LABEL_0"): 1}, LABEL_4) == (
        "bad=LABEL_2,good=LABEL_0",
        3,
    )
