"""The files that bad inputs are made from, and ways to damage a file."""

import io
import json
import shutil
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq


class Case:
    """The files that a bad input is made from."""

    def __init__(self, tmp, store, model, reviews):
        self.tmp, self.store, self.model, self.reviews = tmp, store, model, reviews

    def file(self, name, content):
        path = self.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run(self, data, *more, model=None, store=None):
        return [
            "run",
            store or self.tmp / "new.attn",
            "--data",
            data,
            "--model",
            model or self.model,
            "--device",
            "cpu",
            *more,
        ]

    def copy(self):
        return copied(self.store, self.tmp)

    def manifest(self, **changes):
        store = self.copy()
        raw = json.loads((store / "manifest.json").read_text()) | changes
        (store / "manifest.json").write_text(json.dumps(raw))
        return store

    def tar(self, name="a.tar.gz", member="train/pos/1.txt", link=None):
        path = self.tmp / name
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo(member)
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
                archive.addfile(info)
            else:
                info.size = 4
                archive.addfile(info, io.BytesIO(b"good"))
        return path

    def zip(self, member):
        path = self.tmp / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, "good")
        return path

    def parquet(self, **columns):
        path = self.tmp / "data.parquet"
        pq.write_table(pa.table(columns), path)
        return path

    def tokens_file(self, store):
        return next((store / "tokens").rglob("*.parquet"))


def copied(store, tmp):
    target = tmp / "copy.attn"
    shutil.copytree(store, target)
    return target


def cut(path, share=0.5):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def flipped(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0xFF
    path.write_bytes(content)
    return path


def gone(path):
    path.unlink()
    return path
