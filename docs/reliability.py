"""Trials of the store's reliability, as many as are asked for, and the table of docs/reliability.md made of them.

    python docs/reliability.py --faults 400 --kills 500 --cuts 100 --damages 2000 --readers 50 --tunings 100

`--faults`, `--cuts` and `--readers` are for each kind; a number larger than there are operations tries them all. Each
trial is drawn from the seed, its kind and its number, and what it came to is a line of `--record`: the same command
goes on where it was stopped, and more trials are added to those that are there. Take the file away to begin anew.
"""

import argparse
import itertools
import json
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/faults")]

import beside  # noqa: E402 - beside the tests
import cuts  # noqa: E402 - as above
import damage  # noqa: E402 - as above
import faults  # noqa: E402 - as above
import fuzz  # noqa: E402 - as above
import tuning  # noqa: E402 - as above

PAGE = ROOT / "docs/reliability.md"
HEADER = (
    "| trial | trials | failures | what they came to | when, and at which commit |",
    "|---|---|---|---|---|",
)
BEGIN, END = "<!-- trials -->\n", "<!-- end of the trials -->\n"
#: One trial: given its number and its own chance, what it came to. Raises if a promise is broken.
Trial = Callable[[int, random.Random], str]


class Record:
    """What the trials came to, a line of JSON for each, in a file that grows with every one."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self.seed = path, seed
        command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        told = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own words
        self.commit = told.stdout.strip()
        self.lines: list[dict[str, object]] = []
        if path.exists():  # a line that was cut off by a kill is no line
            whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            path.write_text("".join(whole))
            self.lines = [json.loads(line) for line in whole]

    def missing(self, what: str, number: int) -> list[int]:
        """Which of the first so many trials of a kind have not been made with this seed."""
        done = {line["n"] for line in self.lines if (line["what"], line["seed"]) == (what, self.seed)}
        return [n for n in range(number) if n not in done]

    def go_on(self, what: str, number: int, begin: Callable[[], Trial], every: int = 0) -> None:
        """Make the missing ones of the first so many trials. `every`: how many there are; 0 if they are without end."""
        missing = self.missing(what, number)
        if not missing:
            return
        trial, began = begin(), time.process_time()
        for n in missing:
            line: dict[str, object] = {"what": what, "seed": self.seed, "n": n, "every": every}
            try:
                line["came"] = trial(n, random.Random(f"{self.seed} {what} {n}"))  # noqa: S311 - drawn, no key
            except Exception as error:
                line |= {"came": "failures", "failure": f"{type(error).__name__}: {error}"}
                print(f"FAILURE {what}, {n}: {line['failure']}", flush=True)
            line |= {"commit": self.commit, "day": f"{datetime.now(UTC):%Y-%m-%d}"}
            self.lines.append(line)
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        print(f"{what}: {len(missing)} in {time.process_time() - began:,.0f} s of this process", flush=True)

    def rows(self) -> list[str]:
        """The table's rows."""
        found = []
        for what in dict.fromkeys(str(line["what"]) for line in self.lines):
            lines = [line for line in self.lines if line["what"] == what]
            outcomes = Counter(str(line["came"]) for line in lines)
            said = ", ".join(f"{came}: {n:,}" for came, n in sorted(outcomes.items()) if came != "failures")
            of = f" of {lines[-1]['every']:,}" if lines[-1]["every"] else ""
            when = ", ".join(dict.fromkeys(f"{line['day']} {line['commit']}" for line in lines))
            found.append(f"| {what} | {len(lines):,}{of} | {outcomes['failures']:,} | {said} | {when} |")
        return found


def _list(value: int | list[str]) -> list[str]:
    """The values that an option was given, each as it was written."""
    return [shlex.quote(each) for each in value] if isinstance(value, list) else [str(value)]


def main() -> None:  # noqa: PLR0915 - a list of trials
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("fuzzed", "faults", "kills", "cuts", "damages", "readers", "tunings", "seed"):
        options.add_argument(f"--{name}", type=int, default=0)
    options.add_argument(
        "--work", action="append", choices=faults.WORKS, help="these alone, of what is done to a store"
    )
    options.add_argument("--record", type=Path, default=ROOT / "build/reliability.jsonl")
    asked = options.parse_args()
    works = asked.work or list(faults.WORKS)
    asked.record.parent.mkdir(parents=True, exist_ok=True)
    record = Record(asked.record, asked.seed)
    folder = Path(tempfile.mkdtemp(prefix="attnstore-trials-"))
    places = (folder / f"trial-{n}" for n in itertools.count())
    expected = cache(lambda work: faults.undisturbed(work, next(places)))
    done = cache(lambda work: faults.operations(work, next(places)))

    def failures(work: str) -> Trial:
        drawn = faults.trials(done(work))
        random.Random(f"{asked.seed} {work}").shuffle(drawn)  # noqa: S311 - drawn, no key
        return lambda n, _: faults.trial(work, *drawn[n], next(places), expected(work))

    def kills() -> Trial:
        first, then = len(done("a run")), len(done("a seal"))
        return lambda _, chance: faults.killed_twice(
            "a run", chance.randrange(first), chance.randrange(then), next(places), expected("a run")
        )

    def power_cuts(work: str) -> Trial:
        steps = cuts.recorded(work, next(places))
        return lambda _, chance: cuts.trial(
            steps, chance.randrange(len(steps.steps) + 1), chance, next(places), expected(work)
        )

    def damages() -> Trial:
        sealed = damage.sealed_store(next(places))
        answers = damage.asked(sealed)
        return lambda _, chance: damage.trial(sealed, answers, next(places), chance)

    def fuzzed() -> Trial:
        fuzz.specimens(folder / "specimens")
        return lambda _, chance: fuzz.trial(folder / "specimens", next(places), chance)

    try:
        # Before the others, as it forks: these begin threads.
        record.go_on("a stranger's file with its bytes changed", asked.fuzzed, fuzzed)
        for work in works if asked.faults else ():
            every = len(faults.trials(done(work)))
            number = min(asked.faults, every)
            record.go_on(f"a failure in {work}", number, lambda work=work: failures(work), every)
        record.go_on("a run that is killed, goes on, and is killed again", asked.kills, kills)
        for work in works:
            what = f"a power cut in {work}, what was not synced dropped, torn or reordered"
            record.go_on(what, asked.cuts, lambda work=work: power_cuts(work))
        record.go_on("a damaged file of a sealed store", asked.damages, damages)
        for kind in beside.READERS:
            what = f"a reader beside a writer: {kind}"
            if record.missing(what, asked.readers):
                written = next(places)
                written.mkdir()
                with beside.writer(written, 10_000):
                    record.go_on(
                        what,
                        asked.readers,
                        lambda kind=kind, written=written: (
                            lambda _, chance: beside.look(written, kind, chance) or "one state"
                        ),
                    )
                shutil.rmtree(written)
        if asked.tunings and (library := tuning.built(folder)) is not None:
            with ExitStack() as stack:
                tried = stack.enter_context(tuning.tunings(folder, library))
                pairs = tried.trials()
                every = len(pairs)
                random.Random(asked.seed).shuffle(pairs)  # noqa: S311 - drawn, no key
                number = min(asked.tunings, every)
                record.go_on(
                    "a failure in a fine-tuning", number, lambda: lambda n, _: tried.trial(*pairs[n]), every
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    given = {name: value for name, value in vars(asked).items() if value and name != "record"}
    words = [f"--{name} {each}" for name, value in given.items() for each in _list(value)]
    command = f"By `python docs/reliability.py {' '.join(words)}`:"
    written_rows = "\n".join([command, "", *HEADER, *record.rows()])
    PAGE.write_text(f"{before}{BEGIN}\n{written_rows}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
