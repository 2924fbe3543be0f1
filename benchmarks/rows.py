"""Rows per second of a survey and a reading of a CSV of short rows, beside Polars' read of the same file.

python benchmarks/rows.py [ROWS]

Each is timed in a process of its own, whose peak memory is printed, too. The file is made by a seeded generator.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_WORDS = (
    "the",
    "film",
    "was",
    "a",
    "fine",
    "dull",
    "long",
    "short",
    "good",
    "bad",
    "story",
    "with",
    "an",
    "actor",
)

_TASKS = {
    "survey": "from attnstore.data.survey import survey; n = survey(open_source(SourceConfig(path))).documents",
    "read": "n = sum(1 for _ in open_source(SourceConfig(path)))",
    "polars": "import polars; n = polars.read_csv(path).height",
}
_CHILD = """
import resource, sys, time
path = sys.argv[1]
from attnstore.config import SourceConfig
from attnstore.data.sources import open_source
began = time.perf_counter()
{task}
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{name:8} {{n:>10,}} rows {{seconds:8.2f}} s {{n / seconds:>12,.0f}} rows/s, peak {{peak:,.0f}} MiB")
"""


def write(path: Path, rows: int) -> None:
    """Rows of six to fourteen words with a label."""
    random_ = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        file.write("id,text,label\n")
        for number in range(rows):
            text = " ".join(random_.choices(_WORDS, k=random_.randint(6, 14)))
            file.write(f'{number},"{text}, row {number}",{random_.choice(("neg", "pos"))}\n')


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        write(path, rows)
        print(f"{rows:,} rows, {path.stat().st_size:,} bytes, {time.strftime('%Y-%m-%d')}")
        for name, task in _TASKS.items():
            subprocess.run([sys.executable, "-c", _CHILD.format(name=name, task=task), str(path)], check=True)


if __name__ == "__main__":
    main()
