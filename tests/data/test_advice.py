"""The `--labels` proposed after a run. The advice given before a run is tested in `test_labels`."""

import itertools

from attnstore.data.advice import best_assignment

LABEL_4 = [f"LABEL_{n}" for n in range(4)]


def test_the_best_assignment() -> None:
    """Of all ways to give each label its own class, the one with the most agreements. All ways are tried."""
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
    """The label left over is mapped to nothing. A name with a comma is quoted as --labels reads it."""
    counts = {("x, y", "neg"): 5, ("z", "pos"): 3, ("w", "pos"): 1}
    assert best_assignment(counts, ["neg", "pos"]) == ('w=,"x, y=neg",z=pos', 8)


def test_fewer_labels_than_classes() -> None:
    """A list can't name all classes then, so labels are given as pairs."""
    assert best_assignment({("bad", "LABEL_2"): 2, ("good", "LABEL_0"): 1}, LABEL_4) == (
        "bad=LABEL_2,good=LABEL_0",
        3,
    )
