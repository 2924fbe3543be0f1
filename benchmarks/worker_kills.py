"""Kill workers and their run at random moments (kill -9), and compare the tables with those of one process.

python benchmarks/worker_kills.py MODEL DATA --limit 1500 --part-size 50 --kills 20 --seed 0

First a run with two workers, in which one is killed twice. Then runs in which a random process, a worker or the run
itself, is killed at random moments, until that many have been killed. A killed run is started again, after its workers
have ended, which must take at most ten seconds. Linux only: child processes are found in /proc.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kills import tables

#: Seconds within which the workers of a killed run must end.
_GONE_IN = 10.0


def workers(run: int) -> list[int]:
    """The live processes that a run has started."""
    children = [c.read_text().split() for c in Path(f"/proc/{run}/task").glob("*/children")]
    return [int(child) for of_thread in children for child in of_thread if alive(int(child))]


def alive(process: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def finished(store: Path) -> int:
    """The number of finished parts."""
    return len(list((store / "_parts").glob("*.json")))


class Trial:
    """The runs of one model over one data set, with a record of the kills."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.faults: list[str] = []

    def command(self, store: Path, workers: int) -> list[str]:
        o = self.options
        fixed = [sys.executable, "-m", "attnstore", "run", str(store), "--model", o.model, "--data", o.data]
        sizes = ["--limit", o.limit, "--part-size", o.part_size, "--split", o.split]
        sizes += ["--max-length", o.max_length] if o.max_length else []
        return [*fixed, *sizes, "--threads", "1", "--workers", str(workers), "--device", "cpu"]

    def start(self, store: Path) -> "subprocess.Popen[bytes]":
        log = (self.folder / "log").open("ab")
        return subprocess.Popen(self.command(store, self.options.workers), stdout=log, stderr=log)

    def must_be_equal(self, store: Path, expected: dict[str, str], what: str) -> None:
        same = tables(store) == expected
        print(f"{what}: {len(expected)} files, equal to one process's byte for byte: {same}", flush=True)
        if not same:
            self.faults.append(f"{what}: other bytes")

    def killed_twice(self, expected: dict[str, str]) -> None:
        """One of the workers is killed when parts are finished, and again later."""
        store, began, kills = self.folder / "twice.attn", time.monotonic(), 0
        run = self.start(store)
        parts = -(-int(self.options.limit) // int(self.options.part_size))
        while run.poll() is None:
            if kills < 2 and finished(store) > (kills + 1) * parts // 4 and (victims := workers(run.pid)):
                os.kill(victims[-1], signal.SIGKILL)
                kills += 1
                print(
                    f"killed a worker after {time.monotonic() - began:.1f} s, {finished(store)} parts",
                    flush=True,
                )
            time.sleep(0.05)
        if run.returncode or kills < 2:
            self.faults.append(f"the run with a worker killed twice: exit {run.returncode}, {kills} kills")
        self.must_be_equal(store, expected, f"one of {self.options.workers} workers killed twice")
        shutil.rmtree(store)

    def random_kills(self, expected: dict[str, str], seconds: float) -> None:
        """`seconds`: the time of a whole run.

        It is updated by undisturbed runs, because a busy machine may become quiet.
        """
        draw, dead, store = random.Random(self.options.seed), 0, self.folder / "killed.attn"
        run, began, disturbed = self.start(store), time.monotonic(), False
        while dead < self.options.kills:
            try:
                run.wait(timeout=draw.uniform(0.05, 0.6) * seconds)
            except subprocess.TimeoutExpired:
                victims = workers(run.pid)
                whole = draw.random() < self.options.whole or not victims
                victim = run.pid if whole else draw.choice(victims)
                os.kill(victim, signal.SIGKILL)
                dead, disturbed = dead + 1, True
                print(
                    f"kill {dead}: {'the run' if whole else 'a worker'}, {finished(store)} parts", flush=True
                )
                if whole:
                    run.wait()
                    self.must_be_gone(victims)
                    run = self.start(store)
                continue
            seconds = seconds if disturbed else min(seconds, time.monotonic() - began)
            self.ended(run, store, expected)
            run, began, disturbed = self.start(store), time.monotonic(), False
        while run.wait() and not self.faults:  # three workers killed while they load end the run
            self.ended(run, store, expected)
            run = self.start(store)
        self.ended(run, store, expected)

    def ended(self, run: "subprocess.Popen[bytes]", store: Path, expected: dict[str, str]) -> None:
        """A run has ended by itself: check its store, and remove it."""
        said = [
            line for line in (self.folder / "log").read_text().splitlines() if line.startswith("attnstore: ")
        ]
        if run.returncode == 1 and said and "workers ended before they had a part" in said[-1]:
            print(f"ended by itself, and is started again: {said[-1]}", flush=True)
        elif run.returncode:
            self.faults.append(f"a run ended with exit code {run.returncode}: {said[-1:]}")
            shutil.rmtree(store)
        else:
            self.must_be_equal(store, expected, "a run that went on to its end")
            shutil.rmtree(store)

    def must_be_gone(self, victims: list[int]) -> None:
        """Check that the workers of a killed run end."""
        end = time.monotonic() + _GONE_IN
        while any(map(alive, victims)) and time.monotonic() < end:
            time.sleep(0.05)
        if left := [victim for victim in victims if alive(victim)]:
            self.faults.append(f"{len(left)} workers outlived their run by {_GONE_IN:g} seconds")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", default="1500")
    parser.add_argument("--part-size", default="50")
    parser.add_argument("--max-length", help="tokens of a document, for a quicker trial")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--whole", type=float, default=0.35, help="how often the run itself is killed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="attnstore-worker-kills-"))
    trial = Trial(options, folder)
    began = time.monotonic()
    subprocess.run(trial.command(folder / "one.attn", 1), check=True, capture_output=True)
    print(f"one process: {time.monotonic() - began:.1f} s", flush=True)
    expected = tables(folder / "one.attn")
    began = time.monotonic()
    subprocess.run(trial.command(folder / "two.attn", options.workers), check=True, capture_output=True)
    seconds = time.monotonic() - began
    print(f"{options.workers} workers: {seconds:.1f} s", flush=True)
    trial.must_be_equal(folder / "two.attn", expected, f"{options.workers} workers, undisturbed")
    trial.killed_twice(expected)
    trial.random_kills(expected, seconds)
    for fault in trial.faults:
        print(f"FAULT: {fault}")
    print(f"{len(trial.faults)} faults")
    if not trial.faults:
        shutil.rmtree(folder)
    sys.exit(1 if trial.faults else 0)


if __name__ == "__main__":
    main()
