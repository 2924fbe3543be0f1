"""Peak memory (RSS) and wall time of a command, as counted by the kernel.

python benchmarks/memory.py attnstore run imdb.attn --model MODEL --data DATA --split test
"""

import os
import sys
import time


def main() -> None:
    began = time.monotonic()
    child = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
    _, status, usage = os.wait4(child, 0)
    print(
        f"{time.monotonic() - began:.1f} s wall, {usage.ru_utime + usage.ru_stime:.1f} s of CPU, "
        f"peak RSS {usage.ru_maxrss / 1024:,.0f} MiB",
        file=sys.stderr,
    )
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
