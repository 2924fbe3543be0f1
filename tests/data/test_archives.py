"""Archives as streams."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from attnstore.data.archives import tar_members
from attnstore.errors import DataError


class TestTar:
    def test_long_and_odd_names(self, tmp_path: Path) -> None:
        """GNU's and POSIX's ways to write long names are both read, in the archive's own order."""
        names = ["z/pos/" + "n" * 300 + ".txt", "a/ünïcode/1.txt", "./m/1.txt"]
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
                for number, name in enumerate(names):
                    member = tarfile.TarInfo(name)
                    member.size = number * 1000
                    tar.addfile(member, io.BytesIO(b"x" * member.size))
            read = [(name, len(member.contents())) for name, member in tar_members(tmp_path / "a.tar")]
            assert read == [(name.removeprefix("./"), number * 1000) for number, name in enumerate(names)]

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda content: content[:1400],  # in a text
            lambda content: content[:1800],  # in a header
            lambda content: content[:1536] + b"\xaa" * 512 + content[2048:],  # a header is noise
        ],
    )
    def test_an_archive_cut_off(self, spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
        """An uncompressed archive that ends early, or has a damaged header, is an error, not fewer documents."""
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for number in range(3):
                member = tarfile.TarInfo(f"{number}.txt")
                member.size = 1000
                tar.addfile(member, io.BytesIO(b"x" * 1000))
        (tmp_path / "a.tar").write_bytes(spoil(sink.getvalue()))
        with pytest.raises(
            DataError, match=r"a\.tar is (cut off in the middle of 0\.txt|damaged or cut off after)"
        ):
            for _, member in tar_members(tmp_path / "a.tar"):
                member.contents()
