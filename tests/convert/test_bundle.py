"""TensorFlow's checkpoints: each tensor equals numpy's copy, and every damage is found."""

import shutil

import numpy as np
import pytest
from shared import shared

from attnstore.convert.bundle import find_checkpoint, read_bundle
from attnstore.errors import ModelError

NAME = "model.ckpt-2343"


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the tiny checkpoint, to be damaged."""
    for file in shared("cases/tf1ckpt").glob(f"{NAME}.[id]*"):
        shutil.copyfile(file, tmp_path / file.name)
    return tmp_path / NAME


def test_every_tensor_equals_the_saved_one(checkpoint):
    """Bit for bit, against the same weights in numpy's own format.

    The checkpoint also holds Adam's two slots and the step.
    """
    bundle = read_bundle(checkpoint)
    expected = np.load(shared("cases/tf1ckpt/weights.npz"))
    names = {name.replace("|", "/"): name for name in expected.files}
    slots = {f"{name}/adam_{slot}" for name in names for slot in "mv"}
    assert bundle.entries.keys() == names.keys() | slots | {"global_step"}
    for name, saved in names.items():
        np.testing.assert_array_equal(bundle.read(name), expected[saved], err_msg=name)


def test_a_changed_byte_anywhere_in_the_index_is_found(checkpoint):
    """Every byte that is read is covered by a checksum. The rest is TensorFlow's empty meta index, and zeros."""
    index = checkpoint.with_name(f"{NAME}.index")
    content = index.read_bytes()
    end = len(content)
    assert content[end - 48 : end - 42] == bytes(
        [0xF7, 0x2C, 8, 0x84, 0x2D, 15]
    )  # the handles of the meta index and of the index
    unread = {*range(0x1677, 0x1684), *range(end - 48, end - 45), *range(end - 42, end - 8)}
    for place in sorted({*range(0, end, 61), *range(end - 80, end)} - unread):
        index.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        with pytest.raises(ModelError, match="copy it again") as raised:
            read_bundle(checkpoint)
        assert str(index) in str(raised.value), place


@pytest.mark.parametrize("kept", [0, 7, 47, 100, 3000, 5831])
def test_a_truncated_index_is_found(checkpoint, kept):
    index = checkpoint.with_name(f"{NAME}.index")
    index.write_bytes(index.read_bytes()[:kept])
    with pytest.raises(ModelError, match="cut short: copy it again"):
        read_bundle(checkpoint)


def test_a_changed_byte_of_a_tensor_is_found(checkpoint):
    """The first byte, the last and one between them. Other tensors can still be read."""
    bundle = read_bundle(checkpoint)
    data = checkpoint.with_name(f"{NAME}.data-00000-of-00001")
    content = data.read_bytes()
    entry = bundle.entries["output_weights"]
    for place in (entry.offset, entry.offset + 100, entry.offset + entry.size - 1):
        data.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ModelError, match="output_weights has another checksum"):
            bundle.read("output_weights")
        assert bundle.read("output_bias").shape == (2,)


def test_a_truncated_data_file_is_found(checkpoint):
    bundle = read_bundle(checkpoint)
    data = checkpoint.with_name(f"{NAME}.data-00000-of-00001")
    entry = bundle.entries["output_weights"]
    data.write_bytes(data.read_bytes()[: entry.offset + entry.size - 1])
    with pytest.raises(ModelError, match=r"data-00000-of-00001 is too short: it ends within output_weights"):
        bundle.read("output_weights")


def test_a_missing_data_file_is_named(checkpoint):
    checkpoint.with_name(f"{NAME}.data-00000-of-00001").unlink()
    with pytest.raises(ModelError, match=r"there is no model\.ckpt-2343\.data-00000-of-00001 beside"):
        read_bundle(checkpoint).read("output_bias")


def test_a_tensor_of_another_type_is_refused(checkpoint):
    """The step is an int64."""
    with pytest.raises(ModelError, match="global_step as TensorFlow's type 9"):
        read_bundle(checkpoint).read("global_step")


def test_the_only_checkpoint_or_the_named_one_is_found(tmp_path):
    """Of several, the one that the file `checkpoint` calls the latest; without that an error.

    A path names one directly.
    """
    with pytest.raises(ModelError, match=r"no file NAME\.index"):
        find_checkpoint(tmp_path)
    for step in (10, 20, 30):
        (tmp_path / f"model.ckpt-{step}.index").touch()
        if step == 10:
            assert find_checkpoint(tmp_path) == tmp_path / "model.ckpt-10"
    with pytest.raises(ModelError, match=r"3 checkpoints, model\.ckpt-10 to model\.ckpt-30"):
        find_checkpoint(tmp_path)
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/gone/to/model.ckpt-20"\nall: "model.ckpt-30"\n'
    )
    assert find_checkpoint(tmp_path) == tmp_path / "model.ckpt-20"
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-40"\n')
    with pytest.raises(ModelError, match="names none of them"):
        find_checkpoint(tmp_path)
    for given in ("model.ckpt-30", "model.ckpt-30.index"):
        assert find_checkpoint(tmp_path / given) == tmp_path / "model.ckpt-30"
    with pytest.raises(ModelError, match=r"there is no checkpoint .*model\.ckpt-40"):
        find_checkpoint(tmp_path / "model.ckpt-40")
