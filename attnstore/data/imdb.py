"""The Large Movie Review Dataset (Maas et al., ACL 2011): its download and the films behind its reviews."""

import hashlib
import re
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from attnstore.cache import cache_folder
from attnstore.errors import DataError
from attnstore.events import Downloaded, OnEvent, ignore
from attnstore.messages import one_line

#: The archive at its authors' address.
IMDB_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
IMDB_SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"


def films(urls: bytes) -> list[str | None]:
    """The films' ids, such as tt0406816: line n of `urls_pos.txt` or `urls_neg.txt` belongs to review n."""
    ids = (re.search(rb"/title/(tt[0-9]+)", line) for line in urls.splitlines())
    return [found[1].decode() if found else None for found in ids]


def fetch_imdb(on_event: OnEvent = ignore) -> Path:
    """The IMDb archive in the cache, downloaded if necessary, with its SHA-256 checked.

    The cache is ATTNSTORE_CACHE, by default ~/.cache/attnstore. A download that breaks off is kept and
    resumed, by this call or the next. `on_event` gets `Downloaded` as it goes.
    Raises DataError if the archive is not available, or is not the authors' (it is removed then).
    """
    folder = cache_folder()
    archive = folder / IMDB_URL.rpartition("/")[2]
    if archive.exists():
        _check_imdb(archive)
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(archive.name + ".part")
    for attempt in range(5):
        before = part.stat().st_size if part.exists() else 0
        try:
            _download(part, on_event)
            break
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            # A connection that breaks midway is resumed at once; one that brings nothing is not.
            if attempt == 4 or not part.exists() or part.stat().st_size <= before:
                reason = (
                    error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
                )
                raise DataError(
                    f"{IMDB_URL} can't be downloaded ({one_line(reason)}): try again, what was downloaded is kept;"
                    " or give a copy of the archive as --data"
                ) from error
    _check_imdb(part)
    part.replace(archive)
    return archive


def _download(part: Path, on_event: OnEvent) -> None:
    """Append to `part` what it lacks; a server that can't resume sends everything again."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(IMDB_URL)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=60)  # noqa: S310 - a constant address, no user's
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return  # the download is complete: the SHA-256 shows whether it is right
        raise
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        if response.status == 206 and not resumed:
            part.unlink()
            raise HTTPException("the server sent a different part from the one requested")
        length = response.headers.get("Content-Length")
        done = have if resumed else 0
        total = done + int(length) if length and length.isdecimal() else None
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(1 << 18):
                file.write(chunk)
                done += len(chunk)
                on_event(Downloaded(done, total))
        if total is not None and done < total:
            raise HTTPException(f"the connection broke after {done:,} of {total:,} bytes")


def _check_imdb(archive: Path) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != IMDB_SHA256:
        size = archive.stat().st_size
        archive.unlink()
        raise DataError(
            f"the archive from {IMDB_URL} is not the authors' ({size:,} bytes with SHA-256 {found[:12]}…, not"
            f" {IMDB_SHA256[:12]}…): it was removed, try again"
        )
