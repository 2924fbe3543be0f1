"""Trials of the store's reliability, as many as are asked for, and the table of docs/reliability.md made of them.

    python docs/reliability.py --faults 1000 --kills 200 --cuts 150 --damages 2000 --readers 50

`--faults`, `--cuts` and `--readers` are for each kind; a number larger than there are operations tries them all. Trials
of which none are asked for leave their rows of the table as they are: the page is made in as many steps as one likes.
"""

import argparse
import itertools
import multiprocessing
import random
import shlex
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
import tuning  # noqa: E402 - as above

PAGE = ROOT / "docs/reliability.md"
HEADER = (
    "| trial | trials | failures | what they came to | options of `python docs/reliability.py`, and when |",
    "|---|---|---|---|---|",
)
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
    sealed = damage.sealed_store(folder / "sealed")
    expected = damage.asked(sealed)
    return counted(
        [lambda n=n: damage.trial(sealed, expected, folder / f"damage-{n}", chance) for n in range(number)]
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("faults", "kills", "cuts", "damages", "readers", "tunings", "seed"):
        options.add_argument(f"--{name}", type=int, default=0)
    options.add_argument(
        "--work", action="append", choices=faults.WORKS, help="these alone, of what is done to a store"
    )
    asked = options.parse_args()
    works = asked.work or list(faults.WORKS)
    chance = random.Random(asked.seed)  # noqa: S311 - trials are drawn, not keys
    folder = Path(tempfile.mkdtemp(prefix="attnstore-trials-"))
    results: dict[str, tuple[Counter[str], int]] = {}
    began = time.monotonic()

    def note(what: str, outcomes: Counter[str], every: int = 0) -> None:
        """`every`: how many trials there are; 0 where they are without end."""
        if outcomes:
            results[what] = outcomes, every
            print(what, dict(outcomes), f"{time.monotonic() - began:,.0f} s", flush=True)

    # Beside the others: it is the half of the work, and takes nothing but a processor.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as aside:
        damaged = aside.submit(damages, asked.seed, asked.damages)
        places = (folder / f"trial-{n}" for n in itertools.count())
        expected = {work: faults.undisturbed(work, next(places)) for work in {*works, "a run", "a seal"}}
        done = {work: faults.operations(work, next(places)) for work in {*works, "a run", "a seal"}}
        for work in works:
            every = faults.trials(done[work])
            drawn = chance.sample(every, min(asked.faults, len(every)))
            note(
                f"a failure in {work}",
                counted(
                    [
                        lambda at=at, way=way, work=work: faults.trial(
                            work, at, way, next(places), expected[work]
                        )
                        for at, way in drawn
                    ]
                ),
                len(every),
            )
        note(
            "a run that is killed, goes on, and is killed again",
            counted(
                [
                    lambda: faults.killed_twice(
                        "a run",
                        chance.randrange(len(done["a run"])),
                        chance.randrange(len(done["a seal"])),
                        next(places),
                        expected["a run"],
                    )
                ]
                * asked.kills
            ),
        )
        for work in works:
            steps = cuts.recorded(work, next(places))
            note(
                f"a power cut in {work}, what was not synced dropped, torn or reordered",
                counted(
                    [
                        lambda steps=steps, work=work: cuts.trial(
                            steps,
                            chance.randrange(len(steps.steps) + 1),
                            chance,
                            next(places),
                            expected[work],
                        )
                    ]
                    * asked.cuts
                ),
            )
        for kind in beside.READERS if asked.readers else ():
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
    if asked.tunings and (library := tuning.built(folder)) is not None:
        with tuning.tunings(folder, library) as tried:
            pairs = tried.trials()
            drawn = chance.sample(pairs, min(asked.tunings, len(pairs)))
            note(
                "a failure in a fine-tuning",
                counted([lambda at=at, way=way: tried.trial(at, way) for at, way in drawn]),
                len(pairs),
            )

    rows = table(PAGE.read_text().partition(BEGIN)[2].partition(END)[0])
    command = shlex.join(sys.argv[1:])
    for what, (outcomes, every) in results.items():
        said = ", ".join(
            f"{name}: {count:,}" for name, count in sorted(outcomes.items()) if name != "failures"
        )
        of = f" of {every:,}" if every else ""
        rows[what] = (
            f"| {what} | {outcomes.total():,}{of} | {outcomes['failures']:,} | {said} | "
            f"`{command}`, {datetime.now(UTC):%Y-%m-%d} |"
        )
    before, _, rest = PAGE.read_text().partition(BEGIN)
    written = "\n".join([*HEADER, *rows.values()])
    PAGE.write_text(f"{before}{BEGIN}\n{written}\n\n{END}{rest.partition(END)[2]}")


def table(text: str) -> dict[str, str]:
    """The rows of a table, by what stands in their first cells."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines if line not in HEADER}


if __name__ == "__main__":
    main()
