"""Where attnstore keeps what it can make or fetch again: the IMDb archive, the compiled kernel."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """ATTNSTORE_CACHE, by default ~/.cache/attnstore. It may not exist yet."""
    return Path(os.environ.get("ATTNSTORE_CACHE") or Path.home() / ".cache" / "attnstore").expanduser()
