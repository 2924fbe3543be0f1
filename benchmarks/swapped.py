"""Pairs of reviews that differ in a few words: IMDb test reviews with their words of praise and blame swapped.

    python benchmarks/swapped.py DATA swapped.jsonl [--pairs 200]

DATA is the IMDb archive. In short test reviews (60 to 150 words) that have at least three of the words below for their
own label and none for the other, these words are replaced by their opposites, and the label by the other one. The pair
is a group. It substitutes for pairs edited by people, which the question `edits` is meant for: the edits are known, and
a person would probably, but not certainly, give the text its new label.
"""

import argparse
import json
import random
import re
import tarfile
from pathlib import Path

#: Praise and its opposite, replaced in both directions.
OPPOSITES = dict(
    pair.split(":")
    for pair in (  # noqa: SIM905 - a list would be forty lines
        "great:terrible good:bad best:worst excellent:awful wonderful:horrible brilliant:pathetic loved:hated "
        "love:hate enjoyed:disliked enjoyable:unwatchable beautiful:ugly perfect:pointless amazing:dreadful "
        "superb:lousy fantastic:atrocious interesting:boring funny:unfunny entertaining:tedious recommend:avoid "
        "masterpiece:mess better:worse favorite:hated fun:dull moving:lifeless clever:stupid believable:unbelievable "
        "strong:weak well:badly memorable:forgettable original:unoriginal powerful:feeble talented:untalented "
        "impressive:disappointing delightful:annoying fine:poor liked:disliked success:failure brilliantly:poorly"
    ).split()
)
BACK = {blame: praise for praise, blame in OPPOSITES.items()}
WORD = re.compile(r"[a-z]+", re.IGNORECASE)


def swapped(text: str, label: str) -> tuple[str, int, int]:
    """The text with the words of its label replaced, how many were, and its number of words of the other label."""
    own, other = (OPPOSITES, BACK) if label == "pos" else (BACK, OPPOSITES)
    changed = against = 0

    def exchange(found: re.Match[str]) -> str:
        nonlocal changed, against
        word = found[0]
        against += word.lower() in other
        if word.lower() not in own:
            return word
        changed += 1
        new = own[word.lower()]
        return new.upper() if word.isupper() else new.capitalize() if word[0].isupper() else new

    return WORD.sub(exchange, text), changed, against


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pairs", type=int, default=200)
    given = parser.parse_args()
    reviews = []
    with tarfile.open(given.data) as archive:
        for member in archive:
            if found := re.fullmatch(r"aclImdb/test/(neg|pos)/(\w+)\.txt", member.name):
                opened = archive.extractfile(member)
                text = opened.read().decode("utf-8") if opened else ""
                if 60 <= len(text.split()) <= 150:
                    reviews.append((f"{found[1]}/{found[2]}", found[1], text))
    random.Random(0).shuffle(reviews)
    written = 0
    with given.output.open("w", encoding="utf-8") as out:
        for id_, label, text in reviews:
            new, changed, against = swapped(text, label)
            if changed < 3 or against or written == given.pairs:
                continue
            written += 1
            for name, kind, said in (
                (id_, label, text),
                (f"{id_}/swapped", {"neg": "pos", "pos": "neg"}[label], new),
            ):
                out.write(json.dumps({"id": name, "group": id_, "label": kind, "text": said}) + "\n")


if __name__ == "__main__":
    main()
