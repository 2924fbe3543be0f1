"""The wording of messages: one line of reasonable length, with the closest existing name."""

import difflib
from collections.abc import Iterable, Sequence

#: How many names a message lists; it counts the rest.
_LISTED = 12


def one_line(text: object) -> str:
    """Anything as one printable line of at most 300 characters."""
    line = " ".join(str(text).encode("utf-8", "backslashreplace").decode().split())
    line = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line
    )
    return line if len(line) <= 300 else line[:299] + "…"


def first_line(error: BaseException) -> str:
    """The first line of an exception whose message has many; its type if it has no message."""
    return next((text.strip() for text in str(error).splitlines() if text.strip()), type(error).__name__)


def quoted(name: str) -> str:
    """A name from the data, for a message."""
    return f"'{one_line(name)[:80]}'"


def listed(names: Sequence[str]) -> str:
    """Names from the data, for a message: the first twelve."""
    first = [one_line(name)[:40] for name in names[:_LISTED]]
    more = len(names) - _LISTED
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def similar(name: str, names: Iterable[str]) -> str:
    """The end of a message: did you mean the closest of `names`? Empty if none is close."""
    by_fold = {each.casefold(): each for each in names}
    close = difflib.get_close_matches(name.casefold(), by_fold, n=1)
    return f": did you mean {quoted(by_fold[close[0]])}?" if close else ""


def suggestion(name: object, known: Iterable[str]) -> str:
    """The end of a message about one of attnstore's own words: did you mean up to three of `known`, or all of them."""
    known = list(known)
    begun = [each for each in known if name and each.startswith(str(name))]
    if close := begun[:3] or difflib.get_close_matches(str(name), known, n=3, cutoff=0.65):
        return f": did you mean {' or '.join(close)}?"
    return f": there {'are' if len(known) > 1 else 'is'} {', '.join(known)}" if known else ": there are none"
