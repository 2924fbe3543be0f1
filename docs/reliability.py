"""Trials of the store's reliability, as many as are asked for, and the table of docs/reliability.md made of them.

    python docs/reliability.py --faults 1000 --kills 200 --cuts 150 --damages 2000 --readers 50

`--faults`, `--cuts` and `--readers` are for each kind; a number larger than there are operations tries them all.
"""

import argparse
import itertools
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/faults")]

import beside  # noqa: E402 - beside the tests
import cuts  # noqa: E402 - as above
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


def damages(seed: int, number: int) -> Counter[str]:
    """What so many damages to a sealed store came to."""
    chance = random.Random(seed)  # noqa: S311 - trials are drawn, not keys
    folder = Path(tempfile.mkdtemp(prefix="attnstore-damages-"))
    sealed = run(folder / "sealed", manifest()).path
    expected = damage.asked(sealed)
    return counted(
        [lambda n=n: damage.trial(sealed, expected, folder / f"damage-{n}", chance) for n in range(number)]
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    numbers = {"faults": 130, "kills": 50, "cuts": 50, "damages": 200, "readers": 20, "seed": 18}
    for name, default in numbers.items():
        options.add_argument(f"--{name}", type=int, default=default)
    asked = options.parse_args()
    chance = random.Random(asked.seed)  # noqa: S311 - trials are drawn, not keys
    folder = Path(tempfile.mkdtemp(prefix="attnstore-trials-"))
    results: dict[str, Counter[str]] = {}
    began = time.monotonic()

    def note(what: str, outcomes: Counter[str]) -> None:
        results[what] = outcomes
        print(what, dict(outcomes), f"{time.monotonic() - began:,.0f} s", flush=True)

    # Beside the others: it is the half of the work, and takes nothing but a processor.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as aside:
        damaged = aside.submit(damages, asked.seed, asked.damages)
        undisturbed = contents(run(folder / "undisturbed", faults.PLAN).path)
        ends = {
            beginning: faults.operations(beginning, folder / f"counted-{n}")
            for n, beginning in enumerate(faults.BEGINNINGS)
        }
        places = (folder / f"trial-{n}" for n in itertools.count())
        for beginning, done in ends.items():
            every = [
                (at, way)
                for at, name in enumerate(done)
                for way in faults.WAYS
                if way != "short" or name == "write"
            ]
            drawn = chance.sample(every, min(asked.faults, len(every)))
            note(
                f"a failure in {beginning} ({len(drawn):,} of {len(every):,} that there are)",
                counted(
                    [
                        lambda at=at, way=way, b=beginning: faults.trial(
                            b, at, way, next(places), undisturbed
                        )
                        for at, way in drawn
                    ]
                ),
            )
        whole = ends["a run"]
        note(
            "a run that is killed, goes on, and is killed again",
            counted(
                [
                    lambda: faults.killed_twice(
                        "a run",
                        chance.randrange(len(whole)),
                        chance.randrange(len(ends["a seal"])),
                        next(places),
                        undisturbed,
                    )
                ]
                * asked.kills
            ),
        )
        for beginning in faults.BEGINNINGS:
            work = cuts.recorded(beginning, next(places))
            note(
                f"a power cut in {beginning}, what was not synced dropped, torn or reordered",
                counted(
                    [
                        lambda work=work: cuts.trial(
                            work, chance.randrange(len(work.steps) + 1), chance, next(places), undisturbed
                        )
                    ]
                    * asked.cuts
                ),
            )
        for kind in beside.READERS:
            written = next(places)
            written.mkdir()
            with beside.writer(written, 10_000):
                note(
                    f"a reader beside a writer: {kind}",
                    counted(
                        [lambda kind=kind, written=written: beside.look(written, kind, chance) or "one state"]
                        * asked.readers
                    ),
                )
        note("a damaged file of a sealed store", damaged.result())

    lines = [
        f"`python docs/reliability.py {' '.join(f'--{name} {value}' for name, value in vars(asked).items())}` on "
        f"{datetime.now(UTC):%Y-%m-%d}, in {(time.monotonic() - began) / 60:.0f} minutes on a busy machine:",
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
