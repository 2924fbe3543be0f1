"""Places in buckets: `s3://…`, `gs://…` and `az://…`, through obstore, with the errors of files.

Endpoints and credentials come from the environment, from the variables of each provider's own tools
(`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME` …), and for S3
also from the files of the `aws` command.
"""

import configparser
import errno
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import urlsplit

from attnstore.errors import UsageError
from attnstore.messages import first_line, one_line

#: The schemes of addresses in buckets.
SCHEMES = ("s3", "gs", "az")

_SCHEME = re.compile(rf"({'|'.join(SCHEMES)})://", re.ASCII)
_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")
#: A request without an answer, or answered with 5xx or 429, is repeated, for at most half a minute.
RETRIES: dict[str, Any] = {
    "max_retries": 6,
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
    "retry_timeout": timedelta(seconds=30),
}
#: How often an answer that broke off is requested again.
_AGAIN = 4
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true",
}


def is_bucket_address(name: str) -> bool:
    """Whether `name` is an address in a bucket."""
    return _SCHEME.match(name) is not None


#: An object's identity until it is written again: its ETag, and its version if the server has versions.
Tag = tuple[str | None, str | None]
_ANY: Tag = (None, None)


def _tag(meta: Any) -> Tag:
    return meta.get("e_tag"), meta.get("version")


@dataclass(frozen=True, slots=True)
class Known:
    """What the server knows of an object: its bytes, its tag, and when it was written (seconds since 1970)."""

    size: int
    tag: Tag
    written: float


def _known(meta: Any) -> Known:
    return Known(int(meta["size"]), _tag(meta), meta["last_modified"].timestamp())


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """An address in a bucket, with as much of pathlib's arithmetic as paths in a store need.

    It can be an object, or a *prefix* of names. Names are keys as they are, and are not decoded. Everything that asks
    the server raises the OSError that a file would: FileNotFoundError for what does not exist, PermissionError for
    what is refused; `strerror` is one line.
    """

    address: str

    def __post_init__(self) -> None:
        if not urlsplit(self.address).netloc:
            raise UsageError(f"{one_line(self.address)} names no bucket: write {self.scheme}://BUCKET/NAME")

    @classmethod
    def at(cls, address: str) -> Self:
        """The address that a user gives.

        Raises UsageError if it names no bucket or contains a secret, or if obstore is not installed.
        """
        scheme = address.partition(":")[0]
        if "@" in urlsplit(address).netloc:  # addresses are shown, and stored in manifests
            raise UsageError(
                f"{scheme}://…@{one_line(address.rpartition('@')[2])}: credentials do not belong in an address:"
                f" {_CREDENTIALS.get(scheme, '')}"
            )
        try:
            import obstore  # noqa: F401 - is it there?
        except ImportError:
            raise UsageError(f"{scheme}:// needs another package: pip install 'attnstore[buckets]'") from None
        return cls(address.rstrip("/"))

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: "str | PurePosixPath") -> "Bucket":
        return Bucket(f"{self.address}/{name}")

    @property
    def scheme(self) -> str:
        return self.address.partition(":")[0]

    @property
    def bucket(self) -> str:
        """The bucket's own name."""
        return self.address.split("/")[2]

    @property
    def key(self) -> str:
        """The name inside the bucket; empty for the bucket itself."""
        return self.address.partition("://")[2].partition("/")[2]

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]

    @property
    def parent(self) -> "Bucket":
        return Bucket(self.address.rpartition("/")[0]) if self.key else self

    def relative_to(self, root: "Bucket") -> PurePosixPath:
        """The name below `root`. Raises ValueError if it is not there."""
        if not self.address.startswith(f"{root.address}/"):
            raise ValueError(f"{self} is not below {root}")
        return PurePosixPath(self.address[len(root.address) + 1 :])

    def absolute(self) -> Self:
        return self

    # -- asking the server --------------------------------------------------------------------------------

    def known(self) -> Known:
        """What the server knows of it."""
        return _known(self._asked(lambda ask, client: ask.head(client, self.key)))

    def size(self) -> int:
        """Bytes."""
        return self.known().size

    def tag(self) -> Tag:
        """Its tag, which is valid until it is written again."""
        return self.known().tag

    def objects(self) -> dict[str, Known]:
        """The objects below, by name relative to this address; sorted by name."""
        prefix = f"{self.key}/" if self.key else ""

        def listed(ask: Any, client: Any) -> dict[str, Known]:
            pages = ask.list(client, prefix=prefix or None)
            return {str(each["path"]): _known(each) for page in pages for each in page}

        found: dict[str, Known] = self._asked(listed)
        return {name[len(prefix) :]: found[name] for name in sorted(found)}

    def sizes(self) -> dict[str, int]:
        """The bytes of the objects below, by name relative to this address; sorted by name."""
        return {name: known.size for name, known in self.objects().items()}

    def read_bytes(self) -> bytes:
        return bytes(self._asked(lambda ask, client: ask.get(client, self.key).bytes()))

    def read_range(self, start: int, length: int, tag: Tag = _ANY) -> bytes:
        """`length` bytes from `start`, which must be inside the object. The object must still have this tag."""
        asked: Any = {"range": (start, start + length)}
        if tag[0] is not None:
            asked["if_match"] = tag[0]
        return bytes(self._asked(lambda ask, client: ask.get(client, self.key, options=asked).bytes()))

    def tagged(self) -> tuple[bytes, Tag]:
        """The content, and its tag, which is valid until it is written again."""

        def got(ask: Any, client: Any) -> tuple[bytes, Tag]:
            found = ask.get(client, self.key)
            return bytes(found.bytes()), _tag(found.meta)

        result: tuple[bytes, Tag] = self._asked(got)
        return result

    def put(self, content: "bytes | memoryview[int] | Path") -> None:
        """Write bytes, or a file's content: all or, whatever happens, nothing. An existing object is replaced."""
        whole = content if isinstance(content, Path) else bytes(content)
        try:
            self._asked(lambda ask, client: ask.put(client, self.key, whole))
        except FileNotFoundError:
            if not isinstance(content, Path):
                raise
            # A large file is sent in pieces. If the answer to the last request is lost, it is repeated, and finds no
            # pieces any more.
            self._asked(lambda ask, client: ask.put(client, self.key, whole))

    def copy(self, to: "Bucket") -> None:
        """Copy this object to another name in the bucket, without fetching it. An existing object is replaced."""
        self._asked(lambda ask, client: ask.copy(client, self.key, to.key, overwrite=True))

    def put_if(self, content: bytes, tag: Tag | None) -> Tag | None:
        """Write it if the object still has this tag or, for None, if there is no object. Returns its new tag; None if
        not written.

        `content` must differ from anything else written there: it identifies a write that succeeded but was reported
        failed.
        """
        import obstore
        import obstore.exceptions as kinds

        named = zip(("e_tag", "version"), tag or (), strict=False)
        mode: Any = {name: value for name, value in named if value is not None} or "create"
        try:
            with _errors(self):
                try:
                    written = obstore.put(self._client(), self.key, content, mode=mode, use_multipart=False)
                    return _tag(written)
                except (kinds.AlreadyExistsError, kinds.PreconditionError):
                    pass
            found, found_tag = self.tagged()
        except FileNotFoundError:
            if tag is None:  # the bucket does not exist
                raise
            return None
        return found_tag if found == content else None

    def remove(self, names: Sequence[str] = ()) -> None:
        """Remove it, or these names below it. Missing objects are not an error."""
        keys = [f"{self.key}/{name}" for name in names] if names else [self.key]
        with suppress(FileNotFoundError):
            self._asked(lambda ask, client: ask.delete(client, keys))

    def open(self, size: int | None = None, buffered: int = 1 << 20, tag: Tag = _ANY) -> io.BufferedReader:
        """Open it for reading and seeking, at least `buffered` bytes at a time. `size`: its bytes, if known.

        With a `tag`, reading fails if the object has been written again.
        """
        return io.BufferedReader(_Raw(self, self.size() if size is None else size, tag), buffered)

    def _asked(self, question: Callable[[Any, Any], Any]) -> Any:
        """Ask the server, and again if its answer breaks off: obstore retries in many other cases, but not in this
        one.

        `question` gets obstore and the bucket's client, and may be called twice.
        """
        import obstore

        for left in range(_AGAIN, -1, -1):
            try:
                with _errors(self):
                    return question(obstore, self._client())
            except ConnectionResetError:
                if not left:
                    raise
        raise AssertionError  # the last attempt ended above

    def _client(self) -> Any:
        settings = tuple(
            (name, os.environ[name]) for name in sorted(os.environ) if name.startswith(_VARIABLES)
        )
        return _client(self.scheme, self.bucket, settings)


class _Raw(io.RawIOBase):
    """An object as a file to read."""

    def __init__(self, place: Bucket, size: int, tag: Tag) -> None:
        self._place, self._size, self._tag, self._at = place, size, tag, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        found = self._place.read_range(self._at, length, self._tag)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def settings_of(scheme: str) -> dict[str, str]:
    """The settings that obstore, and Polars, need beyond what they read from the environment."""
    if scheme != "s3":
        return {}
    told = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        told["aws_endpoint"] = endpoint
        if endpoint.startswith("http://"):  # the user set it
            told["allow_http"] = "true"
    return _of_aws_files() | told


def _of_aws_files() -> dict[str, str]:
    """The key and the region from the files of the `aws` command, if the environment has none."""
    profile = os.environ.get("AWS_PROFILE", "default")
    files = {
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"): profile,
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"): profile
        if profile == "default"
        else f"profile {profile}",
    }
    found: dict[str, str] = {}
    for file, section in files.items():
        parser = configparser.RawConfigParser()
        try:
            parser.read(Path(file).expanduser(), encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError, RuntimeError):
            continue
        if parser.has_section(section):
            found |= {name: value for name, value in parser.items(section) if value}
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    taken = {} if "AWS_ACCESS_KEY_ID" in os.environ else {n: found[n] for n in names if n in found}
    if "region" in found and not {"AWS_REGION", "AWS_DEFAULT_REGION"} & os.environ.keys():
        taken["aws_region"] = found["region"]
    return taken


@lru_cache(maxsize=32)
def _client(scheme: str, bucket: str, _settings: tuple[tuple[str, str], ...]) -> Any:
    """The client of one bucket. `_settings`: the environment that it is made from."""
    from obstore.store import from_url

    settings = settings_of(scheme)
    client = {"allow_http": True} if settings.pop("allow_http", None) else None
    options: dict[str, Any] = {"config": settings, "client_options": client, "retry_config": RETRIES}
    return from_url(f"{scheme}://{bucket}", **options)


@contextmanager
def _errors(place: Bucket) -> Iterator[None]:
    """Turn obstore's errors into those of a file."""
    import obstore.exceptions as kinds

    try:
        yield
    except (kinds.BaseError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _as_os_error(place, error) from None


def _as_os_error(place: Bucket, error: Exception) -> OSError:
    """The error of a file for one of obstore's, whose message has many lines, with the server's answer in XML."""
    kind, number, why = _diagnosed(place, error)
    return kind(number, why, str(place))


def _diagnosed(place: Bucket, error: Exception) -> tuple[type[OSError], int, str]:
    """The kind of the error, its number, and what to say."""
    import obstore.exceptions as kinds

    said = str(error)
    code = re.search(r"<Code>(\w+)</Code>", said)
    status = re.search(r"status code: (\d+) ?([\w ]*)", said)
    refused = (kinds.PermissionDeniedError, kinds.UnauthenticatedError)
    if "NoSuchBucket" in said or isinstance(error, FileNotFoundError):
        what = f"bucket {place.bucket}" if "NoSuchBucket" in said else "such object"
        return FileNotFoundError, errno.ENOENT, f"there is no {what}"
    if isinstance(error, kinds.PreconditionError):
        return OSError, errno.EIO, "it was overwritten after it was opened"
    # Without credentials, the machine itself is asked: a cloud's own machines know them.
    if any(sign in said for sign in ("169.254.169.254", "metadata", "MissingAccount", "Account must be")):
        return PermissionError, errno.EACCES, f"no credentials were found: {_CREDENTIALS[place.scheme]}"
    if isinstance(error, refused) or (status is not None and status[1] in ("401", "403")):
        answer = code[1] if code else status[1] if status else "403"
        return PermissionError, errno.EACCES, f"the server refuses these credentials ({answer})"
    if "HTTP error" in said and status is None and "error sending request" not in said:
        return ConnectionResetError, errno.ECONNRESET, "the connection to the server was lost"
    why = one_line(first_line(error))
    if status is not None:
        why = f"the server answers {status[1]} {status[2]}".strip() + (f" ({code[1]})" if code else "")
    elif "error sending request" in said:
        asked = re.search(r"https?://[^/\s]+", said)
        why = f"{asked[0] if asked else 'the server'} does not answer"
    return OSError, errno.EIO, why
