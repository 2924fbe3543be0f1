"""Trials of the store's reliability, as many as are asked for, and the table of docs/reliability.md made of them.

    python docs/reliability.py --faults 130 --damages 200 --readers 20

`--faults` and `--readers` are for each kind; a number larger than there are operations tries them all.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/faults")]

import beside  # noqa: E402 - beside the tests
import damage  # noqa: E402 - as above
import faults  # noqa: E402 - as above
from small_store import contents, manifest, run  # noqa: E402 - as above

PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- trials -->\n", "<!-- end of the trials -->\n"


def counted(trials: list[Callable[[], str]]) -> Counter[str]:
    """What the trials came to; one that raises is a failure, and is reported."""
    outcomes: Counter[str] = Counter()
    for trial in trials:
        try:
            outcomes[trial()] += 1
        except Exception as error:
            outcomes["failures"] += 1
            print(f"FAILURE {type(error).__name__}: {error}", flush=True)
    return outcomes


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    for name, default in (("faults", 130), ("damages", 200), ("readers", 20), ("seed", 18)):
        options.add_argument(f"--{name}", type=int, default=default)
    asked = options.parse_args()
    chance = random.Random(asked.seed)  # noqa: S311 - trials are drawn, not keys
    folder = Path(tempfile.mkdtemp(prefix="attnstore-trials-"))
    results: dict[str, Counter[str]] = {}
    began = time.monotonic()

    undisturbed = contents(run(folder / "undisturbed", faults.PLAN).path)
    for number, beginning in enumerate(faults.BEGINNINGS):
        done = faults.operations(beginning, folder / f"counted-{number}")
        every = [
            (at, way)
            for at, name in enumerate(done)
            for way in faults.WAYS
            if way != "short" or name == "write"
        ]
        drawn = chance.sample(every, min(asked.faults, len(every)))
        what = f"a failure in {beginning} ({len(drawn):,} of {len(every):,} that there are)"
        results[what] = counted(
            [
                lambda at=at, way=way, n=n, beginning=beginning: faults.trial(
                    beginning, at, way, folder / f"fault-{beginning}-{n}".replace(" ", "-"), undisturbed
                )
                for n, (at, way) in enumerate(drawn)
            ]
        )
        print(what, dict(results[what]), f"{time.monotonic() - began:,.0f} s", flush=True)

    sealed = run(folder / "sealed", manifest()).path
    expected = damage.asked(sealed)
    results["a damaged file of a sealed store"] = counted(
        [
            lambda n=n: damage.trial(sealed, expected, folder / f"damage-{n}", chance)
            for n in range(asked.damages)
        ]
    )
    print(dict(results["a damaged file of a sealed store"]), f"{time.monotonic() - began:,.0f} s", flush=True)

    for number, kind in enumerate(beside.READERS):
        with beside.writer(folder / f"written-{number}", 10_000):
            (folder / f"written-{number}").mkdir(exist_ok=True)
            results[f"a reader beside a writer: {kind}"] = counted(
                [
                    lambda kind=kind, n=number: (
                        beside.look(folder / f"written-{n}", kind, chance) or "one state"
                    )
                ]
                * asked.readers
            )
        print(kind, f"{time.monotonic() - began:,.0f} s", flush=True)

    lines = [
        f"`python docs/reliability.py --faults {asked.faults} --damages {asked.damages} --readers {asked.readers} "
        f"--seed {asked.seed}` on {datetime.now(UTC):%Y-%m-%d}:",
        "",
        "| trial | trials | failures | what they came to |",
        "|---|---|---|---|",
    ]
    for what, outcomes in results.items():
        said = ", ".join(
            f"{name}: {count:,}" for name, count in sorted(outcomes.items()) if name != "failures"
        )
        lines.append(f"| {what} | {outcomes.total():,} | {outcomes['failures']:,} | {said} |")
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + after)


if __name__ == "__main__":
    main()
