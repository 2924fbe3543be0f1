"""Rows per wall-clock and processor second: a survey and a reading of a CSV file of short rows, compared with Polars.

python benchmarks/rows.py [ROWS]

Polars reads the same file as a whole. Each is timed in a separate process, whose peak memory is also printed. Processor
seconds are summed over all cores, and depend little on other load. The file is made by a seeded generator.
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
began, worked = time.perf_counter(), time.process_time()
{task}
seconds, worked = time.perf_counter() - began, time.process_time() - worked
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
rates = f"{{n / seconds:>10,.0f}} rows/s, {{n / worked:>10,.0f}} per second of the processor"
print(f"{name:8} {{n:>10,}} rows {{seconds:8.2f}} s {{rates}}, peak {{peak:,.0f}} MiB")
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
