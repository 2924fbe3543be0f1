"""Kill -9 a real run at random moments, resume it each time, and compare the tables with an undisturbed run's.

python benchmarks/kills.py MODEL DATA --limit 1500 --part-size 100 --kills 10
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def tables(store: Path) -> dict[str, str]:
    """The SHA-256 of every Parquet file, by its path in the store."""
    files = sorted(store.rglob("*.parquet"))
    return {str(f.relative_to(store)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", default="1500")
    parser.add_argument("--part-size", default="100")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="attnstore-kills-"))
    store, undisturbed = folder / "killed.attn", folder / "undisturbed.attn"

    def command(path: Path) -> list[str]:
        fixed = [sys.executable, "-m", "attnstore", "run", str(path)]
        data = ["--model", options.model, "--data", options.data, "--split", options.split]
        return [*fixed, *data, "--limit", options.limit, "--part-size", options.part_size]

    began = time.monotonic()
    subprocess.run(command(undisturbed), check=True, capture_output=True)
    whole = time.monotonic() - began
    print(f"undisturbed: {whole:.1f} s")
    for number in range(1, options.kills + 1):
        child = subprocess.Popen(command(store), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait = generator.uniform(0.1, 1.0) * whole / 2
        try:
            child.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            child.kill()
        ended = "killed" if child.wait() == -signal.SIGKILL else f"exit {child.returncode}"
        receipts = len(list((store / "_parts").glob("*.json"))) if store.exists() else 0
        print(f"kill {number}: after {wait:.1f} s, {ended}, {receipts} parts finished")
        if (store / "manifest.json").exists() and '"sealed": "' in (store / "manifest.json").read_text():
            print("finished before the next kill: begin again")
            shutil.rmtree(store)
    subprocess.run(command(store), check=True, capture_output=True)
    same = tables(store) == tables(undisturbed)
    print(f"{len(tables(store))} files, equal to the undisturbed run's byte for byte: {same}")
    shutil.rmtree(folder)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
