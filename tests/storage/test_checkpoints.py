"""Checkpoints: the last three are kept, damaged ones are named and passed over, and nothing is changed in vain."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from ludus.core.errors import UsageError
from ludus.storage.checkpoints import Checkpoints


def state(number):
    return {"x": jnp.full(4, float(number))}


@pytest.fixture
def saved(tmp_path):
    """Checkpoints 1 to 5."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for number in range(1, 6):
        checkpoints.save(number, state(number), {"call": number})
    return checkpoints


def damage(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def unheard(text):
    pytest.fail(f"nothing is wrong, but: {text}")


def test_the_last_three_are_kept(saved):
    assert [int(path.stem) for path in saved.paths()] == [3, 4, 5]


def test_the_newest_is_loaded_without_a_word(saved):
    found, metadata = saved.load(state(0), unheard)
    assert metadata == {"call": 5} and (found["x"] == 5).all()


def test_checkpoints_are_ordered_by_number(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for number in (9, 10, 99_999, 100_000):
        checkpoints.save(number, state(number), {})
    assert [int(path.stem) for path in checkpoints.paths()] == [10, 99_999, 100_000]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(saved):
    damage(saved.paths()[-1])
    heard = []
    found, metadata = saved.load(state(0), heard.append)
    assert metadata == {"call": 4} and (found["x"] == 4).all()
    assert len(heard) == 1 and str(saved.paths()[-1]) in heard[0] and "damaged" in heard[0]


def test_a_checkpoint_of_another_shape_is_named_and_passed_over(saved):
    saved.save(6, {"x": jnp.zeros(7)}, {"call": 6})
    heard = []
    assert saved.load(state(0), heard.append)[1] == {"call": 5}
    assert "float32[7]" in heard[0]


def test_if_all_are_damaged_nothing_is_loaded_and_nothing_is_touched(saved):
    for path in saved.paths():
        damage(path)
    before = {path: path.read_bytes() for path in saved.directory.iterdir()}
    heard = []
    with pytest.raises(UsageError, match=r"none of the 3 there can be read.*nothing was changed"):
        saved.load(state(0), heard.append)
    assert not heard, "one sentence says it all"
    assert {path: path.read_bytes() for path in saved.directory.iterdir()} == before


def test_a_directory_without_checkpoints_says_so(tmp_path):
    with pytest.raises(UsageError, match="there is none"):
        Checkpoints(tmp_path / "nowhere").load(state(0), unheard)


def test_temporary_files_of_a_crash_are_no_checkpoints(saved):
    (saved.directory / ".000000000006.safetensors.123.tmp").write_bytes(b"half")
    assert saved.load(state(0), unheard)[1] == {"call": 5}
