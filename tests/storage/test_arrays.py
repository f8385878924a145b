"""Array files: what is read is what was written, or an error; and writing leaves the old file or the new one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.core.errors import UsageError
from ludus.storage.arrays import DamagedFileError, decode, encode, flatten, read_arrays, unflatten, write_arrays
from ludus.storage.files import write_atomically
from toys import assert_same

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "weights": RANDOM.normal(size=(3, 5)).astype(np.float32),
    "transposed": RANDOM.normal(size=(4, 2)).T,
    "count": np.asarray(7, np.int32),
    "flags": np.asarray([True, False, True]),
    "bytes": np.arange(6, dtype=np.uint8),
    "empty": np.zeros((0, 3), np.float32),
}
METADATA = {"kind": "test", "zeros": "0" * 64, "nested": {"list": [1, 2.5, None, "ä"]}}
DATA = encode(ARRAYS, METADATA)


def test_arrays_and_metadata_come_back_as_they_were():
    arrays, metadata = decode(DATA, "file")
    assert metadata == METADATA and set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(arrays[name], array)


def test_the_same_arrays_and_metadata_give_the_same_bytes():
    """Oracle: many attempts, with names in another order; one would do if nothing were random."""
    again = dict(reversed(ARRAYS.items()))
    assert {encode(again, dict(reversed(METADATA.items()))) for _ in range(50)} == {DATA}


def test_every_flipped_byte_is_detected():
    """Oracle: 1,000 flips of one byte at random places, header and hash included."""
    for place, change in zip(RANDOM.integers(0, len(DATA), 1000), RANDOM.integers(1, 256, 1000), strict=True):
        damaged = bytearray(DATA)
        damaged[place] ^= change
        with pytest.raises(DamagedFileError, match="file is damaged"):
            decode(bytes(damaged), "file")


def test_every_truncation_is_detected_and_so_are_bytes_too_many():
    for size in (0, 1, 7, 8, 9, len(DATA) - 1, *RANDOM.integers(0, len(DATA), 200)):
        with pytest.raises(DamagedFileError):
            decode(DATA[:size], "file")
    with pytest.raises(DamagedFileError):
        decode(DATA + b"\0", "file")


@pytest.mark.parametrize("text", [b"", b"no arrays here", b"\xff" * 100, b"\x02" + b"\0" * 7 + b"[]"])
def test_other_files_are_damaged_ones(text):
    with pytest.raises(DamagedFileError):
        decode(text, "file")


class Tree(eqx.Module):
    key: jax.Array
    keys: jax.Array
    flag: jax.Array
    count: jax.Array
    parts: dict[str, tuple[jax.Array, ...]]
    name: str = eqx.field(static=True)


def tree(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    return Tree(keys[0], keys[1:], jnp.asarray(seed == 1), jnp.asarray(seed), {"a": (jnp.arange(3.0) * seed,)}, "same")


def test_a_tree_with_keys_flags_and_numbers_survives_a_file(tmp_path):
    """Oracle: the tree itself, after a file and into a tree of other values; keys draw the same numbers."""
    write_arrays(tmp_path / "tree", flatten(tree(1)), {})
    found = unflatten(tree(2), read_arrays(tmp_path / "tree")[0], "tree")
    assert jax.tree.structure(found) == jax.tree.structure(tree(1))
    assert_same(found, tree(1))
    assert [x.dtype for x in jax.tree.leaves(found)] == [x.dtype for x in jax.tree.leaves(tree(1))]
    assert jax.random.uniform(found.key) == jax.random.uniform(tree(1).key)


def test_arrays_of_another_tree_are_refused_with_what_differs():
    arrays = flatten(tree(1))
    with pytest.raises(DamagedFileError, match=r"holds int32\[2\] at \.flag where bool\[\] belongs"):
        unflatten(tree(1), {**arrays, ".flag": np.zeros(2, np.int32)}, "file")
    with pytest.raises(DamagedFileError, match=r"holds nothing at \.count"):
        unflatten(tree(1), {k: v for k, v in arrays.items() if k != ".count"}, "file")


def test_a_file_is_replaced_whole_and_nothing_is_left_behind(tmp_path):
    for text in (b"old", b"new"):
        write_atomically(tmp_path / "deep" / "file", text)
    assert (tmp_path / "deep" / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path / "deep") == ["file"]


@pytest.mark.parametrize("place", ["file/below", "file/further/below"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    """Below a regular file nothing can be written, not even by root."""
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UsageError, match=f"cannot write .*{place}"):
        write_atomically(tmp_path / place, b"data")
    assert (tmp_path / "file").read_text() == "kept" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path, monkeypatch, call):
    """Oracle: what stands in the directory afterwards; the disk is full at either of two calls."""
    write_atomically(tmp_path / "file", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UsageError, match=r"cannot write .*file: no space left on device"):
        write_atomically(tmp_path / "file", b"new")
    assert Path(tmp_path / "file").read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
