"""Pushes exported stores to the Hugging Face hub and fetches them: `hf://datasets/USER/NAME[@REVISION]`.

The hub's client supplies the access token: `HF_TOKEN`, or the one that `hf auth login` stored.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnstore.errors import AttnstoreError, StoreError, UsageError
from attnstore.messages import first_line, one_line
from attnstore.store.manifest import MANIFEST

_ADDRESS = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?/?")
#: The files of a store. Cards and pages beside them are not fetched.
_STORE_FILES = [MANIFEST, "*.parquet", "_faithfulness/*.json"]
#: Files that an earlier push may have left and that are not part of this one.
_EARLIER_FILES = [
    "documents/**",
    "tokens/**",
    "faithfulness/**",
    "_faithfulness/**",
    "_merged/**",
    "*.parquet",
]
_CARD = "README.md"


def is_hub_address(named: object) -> bool:
    """Whether `named` is an hf:// address of any kind."""
    return isinstance(named, str) and named.startswith("hf://")


def repository_of(address: str) -> tuple[str, str | None]:
    """(USER/NAME, revision or None) of an address. Raises UsageError if the address has another form."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UsageError(f"{one_line(address)} is not a data set on the hub: write hf://datasets/USER/NAME")
    return found[1], found[2]


def fetched(address: str) -> Path:
    """The folder of the store at an address, read-only in the hub client's cache. Files already there are not fetched.

    Raises:
        UsageError: the address has another form.
        StoreError: there is no such data set, it holds no store, or the hub can't be reached.
    """
    name, revision = repository_of(address)
    from huggingface_hub import snapshot_download

    with _one_line_errors(name, StoreError):
        folder = Path(
            snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=_STORE_FILES)
        )
    if not (folder / MANIFEST).is_file():
        raise StoreError(f"{address} holds no store: `attnstore push` puts one there")
    return folder


def claim(address: str, *, public: bool = False) -> str:
    """Create the data set on the hub to which a store is pushed, if it does not exist, and return its web address.

    Raises:
        UsageError: the address has another form, or the data set there is not a store.
        StoreError: the hub refuses, or can't be reached.
    """
    name, revision = repository_of(address)
    if revision is not None:
        raise UsageError(f"{address}: a store is pushed to the main branch: leave @{revision} out")
    from huggingface_hub import HfApi

    api = HfApi()
    with _one_line_errors(name, StoreError):
        made = api.create_repo(name, repo_type="dataset", private=not public, exist_ok=True)
        there = set(api.list_repo_files(name, repo_type="dataset")) - {".gitattributes"}
        if there and MANIFEST not in there:
            raise UsageError(
                f"{address} holds another data set ({one_line(min(there))} is in it): push to a new name"
            )
    return str(made)


def push(folder: Path, address: str) -> None:
    """Upload an exported store with its card to a data set that `claim` has created.

    The manifest goes last, so that nobody opens half a store. Files of an earlier push are removed.

    Raises:
        UsageError: the address has another form.
        StoreError: the hub refuses, or can't be reached.
    """
    name, _ = repository_of(address)
    from huggingface_hub import HfApi

    api = HfApi()
    with _one_line_errors(name, StoreError):
        last = [MANIFEST, _CARD]
        api.upload_folder(
            repo_id=name,
            repo_type="dataset",
            folder_path=folder,
            ignore_patterns=last,
            delete_patterns=_EARLIER_FILES,
            commit_message="Files of a store of attnstore",
        )
        api.upload_folder(
            repo_id=name,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=last,
            commit_message="Manifest and card of a store of attnstore",
        )


@contextmanager
def _one_line_errors(name: str, kind: type[AttnstoreError]) -> Iterator[None]:
    """Turn errors of the hub's client into one line that says what to do."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # The base class of the errors of the client's HTTP library, httpx or its successor.
    refused: type[Exception] = HfHubHTTPError.__bases__[0]

    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.ERROR)  # its warnings are repeated here, or do not concern users
    try:
        yield
    except HFValidationError as error:
        raise UsageError(f"{name} is not a valid name on the hub: {first_line(error)}") from error
    except LocalEntryNotFoundError as error:
        raise kind(f"the hub can't be reached, and {name} was not fetched before") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise kind(
            {
                401: f"the hub denies access to {name} (401): set HF_TOKEN to a token with access",
                403: f"the hub forbids that for {name} (403): the token in HF_TOKEN needs that permission",
                404: f"the hub has no data set {name}, or not for the token in HF_TOKEN (404)",
            }.get(status, f"the hub refuses {name}: {first_line(error)}")
        ) from error
    except (
        refused,
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # RuntimeError: another thread closed this thread's client
        raise kind(f"the hub can't be asked about {name}: {first_line(error)}") from error
    finally:
        client.setLevel(level)
