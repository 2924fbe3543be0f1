"""Archives read as streams."""

import io
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attnstore.config import SourceConfig
from attnstore.data import sources
from attnstore.data.archives import Member, tar_members
from attnstore.data.documents import Document, Rejected
from attnstore.errors import DataError


class TestTar:
    def test_long_and_odd_names(self, tmp_path: Path) -> None:
        """GNU's and POSIX's ways to write long names are both read, in the order of the archive."""
        names = ["z/pos/" + "n" * 300 + ".txt", "a/ünïcode/1.txt", "./m/1.txt"]
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
                for number, name in enumerate(names):
                    member = tarfile.TarInfo(name)
                    member.size = number * 1000
                    tar.addfile(member, io.BytesIO(b"x" * member.size))
            read = [(name, len(member.contents())) for name, member in tar_members(tmp_path / "a.tar")]
            assert read == [(name.removeprefix("./"), number * 1000) for number, name in enumerate(names)]

    @pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
    def test_members_are_those_that_tarfile_finds(self, form: int, tmp_path: Path) -> None:
        """Plain headers, which are read without tarfile, mixed with all others: the same names and contents."""
        chance = random.Random(form)
        with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
            for number in range(60):
                member = tarfile.TarInfo(
                    f"{chance.choice(['a', 'b/ü', 'c' * 90])}/{'n' * chance.choice([1, 60])}{number}"
                )
                member.type = chance.choice([tarfile.REGTYPE] * 5 + [tarfile.AREGTYPE, tarfile.DIRTYPE])
                member.size = 0 if member.isdir() else chance.choice([0, 1, 511, 512, 513, 3000])
                tar.addfile(member, io.BytesIO(chance.randbytes(member.size)))
        with tarfile.open(tmp_path / "a.tar") as tar:
            expected = [(m.name, tar.extractfile(m).read()) for m in tar if m.isfile()]  # type: ignore[union-attr]
        assert [(name, member.contents()) for name, member in tar_members(tmp_path / "a.tar")] == expected
        assert len(expected) > 40

    def test_a_global_header_applies_to_all_members(self, tmp_path: Path) -> None:
        """A global POSIX header, as `git archive` writes at the beginning. This one gives all members the same name."""
        headers = {"path": "there/9.txt"}
        with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
            for number in range(3):
                tar.addfile(tarfile.TarInfo(f"{number}.txt"))
        assert [name for name, _ in tar_members(tmp_path / "a.tar")] == ["there/9.txt"] * 3

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda content: content[:1400],  # in a text
            lambda content: content[:1800],  # in a header
            lambda content: content[:1536] + b"\xaa" * 512 + content[2048:],  # a header is random bytes
            lambda content: content[:1536] + b"3" + content[1537:],  # a letter of a name was changed
        ],
    )
    def test_a_damaged_or_truncated_archive(self, spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
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


class TestTextsOfATar:
    """Texts in class folders, kept in memory from the survey of the archive until they are read."""

    @pytest.mark.parametrize(("room", "looks"), [(1 << 20, [1, 1, 2]), (25, [1, 2, 3]), (0, [1, 2, 3])])
    def test_the_texts_are_the_same_at_every_reading(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, looks: list[int]
    ) -> None:
        """The first reading needs no second pass over the archive if all texts fit into memory.

        No large text gets in that way.
        """
        monkeypatch.setattr(sources, "_HELD", room)
        texts = {f"{label}/{n}": f"film {n}, {label}" * (1 + n) for label in ("neg", "pos") for n in range(3)}
        with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
            for name, text in texts.items():
                member = tarfile.TarInfo(f"top/{name}.txt")
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
        looked = 0

        def counted(path: Path) -> Iterator[tuple[str, Member]]:
            nonlocal looked
            looked += 1
            yield from tar_members(path)

        monkeypatch.setattr(sources, "tar_members", counted)
        config = SourceConfig(str(tmp_path / "a.tgz"), max_document_bytes=30)
        source = sources.open_source(config)
        found = [looked]
        for _ in range(2):
            items = list(source)
            found.append(looked)
            assert [(d.id, d.text, d.label) for d in items if isinstance(d, Document)] == [
                (name, text, name[:3]) for name, text in texts.items() if len(text) <= 30
            ]
            assert [r.where for r in items if isinstance(r, Rejected)] == [
                name for name, text in texts.items() if len(text) > 30
            ]
        assert found == looks
