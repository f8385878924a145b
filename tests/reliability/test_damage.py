"""Damaged checkpoints are found, named and passed over; where none is good, nothing is touched."""

from __future__ import annotations

import shutil

import pytest
from processes import STEPS_PER_CALL, TINY, everything, is_one_sentence, results

from ludus.cli.main import main

CALLS = 4


def flip(data: bytes) -> bytes:
    """One bit, in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE = {
    "flipped": flip,
    "truncated": lambda data: data[: len(data) * 2 // 3],
    "emptied": lambda data: b"",
    "replaced": lambda data: b"\x00" * len(data),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run with its last three checkpoints."""
    path = tmp_path_factory.mktemp("whole") / "run"
    steps = str(CALLS * STEPS_PER_CALL)
    command = ["train", "ppo", "matrix/climbing", *TINY, "--steps", steps, "--checkpoint-every", "0"]
    assert main([*command, "--evaluate-every", str(STEPS_PER_CALL), "--run-dir", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def run(whole, tmp_path):
    """A copy to be damaged, and its checkpoints, newest last."""
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run", sorted((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(("how", "count"), [("flipped", 1), ("truncated", 2), ("emptied", 1)])
def test_damaged_newest_checkpoints_are_named_and_the_one_before_used(run, whole, how, count, capsys):
    path, checkpoints = run
    for file in checkpoints[-count:]:
        file.write_bytes(DAMAGE[how](file.read_bytes()))
    assert main(["resume", str(path)]) == 0
    err = capsys.readouterr().err
    assert all(f"{file} is damaged" in err for file in checkpoints[-count:]), err
    assert str(checkpoints[-count - 1]) not in err
    assert f"resuming {path} at {(CALLS - count) * STEPS_PER_CALL:,} steps" in err
    assert results(path) == results(whole)


def test_with_no_good_checkpoint_resume_refuses_and_touches_nothing(run, capsys):
    path, checkpoints = run
    for file, damage in zip(checkpoints, [flip, DAMAGE["truncated"], DAMAGE["emptied"]], strict=True):
        file.write_bytes(damage(file.read_bytes()))
    before = everything(path)
    assert main(["resume", str(path), "--quiet"]) == 2
    assert everything(path) == before
    err = capsys.readouterr().err
    assert is_one_sentence(err) and str(path) in err and "none of the 3 there can be read" in err


def test_checkpoints_that_are_gone_are_missed_and_nothing_is_begun_anew(run, capsys):
    path, checkpoints = run
    for file in checkpoints:
        file.unlink()
    before = everything(path)
    assert main(["resume", str(path)]) == 2
    assert everything(path) == before
    err = capsys.readouterr().err
    assert is_one_sentence(err) and "holds no checkpoint" in err and "nothing was changed" in err


def test_damage_is_said_even_quietly(run, capsys):
    path, checkpoints = run
    checkpoints[-1].write_bytes(flip(checkpoints[-1].read_bytes()))
    assert main(["resume", str(path), "--quiet"]) == 0
    assert f"{checkpoints[-1]} is damaged" in capsys.readouterr().err


def test_a_checkpoint_of_another_shape_is_refused_not_trained_on(run, capsys):
    path, _ = run
    config = path / "config.toml"
    config.write_text(config.read_text().replace("hidden = [\n    8,\n]", "hidden = [\n    9,\n]"))
    assert "9," in config.read_text()
    before = everything(path)
    assert main(["resume", str(path)]) == 2
    assert everything(path) == before
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_policy_is_named(run, how, capsys):
    path, _ = run
    file = next((path / "policies").rglob("*.safetensors"))
    file.write_bytes(DAMAGE[how](file.read_bytes()))
    assert main(["evaluate", str(path), "--episodes", "2"]) == 2
    err = capsys.readouterr().err
    assert is_one_sentence(err) and f"{file} is damaged" in err


def test_rows_cut_short_by_a_crash_are_dropped_and_written_again(run, whole, capsys):
    path, checkpoints = run
    checkpoints[-1].unlink()
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"steps": 999, "se')
    assert main(["resume", str(path), "--quiet"]) == 0
    assert results(path) == results(whole)


def test_rows_shorter_than_the_checkpoint_says_are_refused_and_nothing_is_touched(run, capsys):
    path, _ = run
    (path / "evaluations.jsonl").write_text("")
    before = everything(path)
    assert main(["resume", str(path), "--quiet"]) == 2
    assert everything(path) == before
    err = capsys.readouterr().err
    assert is_one_sentence(err) and "evaluations.jsonl" in err


@pytest.mark.parametrize(
    ("name", "value"), [("actors", '"two"'), ("learners", "-1"), ("runtime", '"rya"'), ("runtime", "[]")]
)
def test_a_configuration_that_makes_no_sense_is_named_before_a_cluster_begins(run, capsys, monkeypatch, name, value):
    """`ludus resume` looks at where a run trained before it has read all of it."""
    from ludus.runtime.ray import cluster

    monkeypatch.setattr(cluster, "connect", lambda where: pytest.fail("a cluster was begun"))
    path, _ = run
    config = (path / "config.toml").read_text().replace('runtime = "local"', 'runtime = "ray"')
    lines = [f"{name} = {value}" if line.startswith(f"{name} = ") else line for line in config.splitlines()]
    (path / "config.toml").write_text("\n".join(lines))
    before = everything(path)
    assert main(["resume", str(path), "--quiet"]) == 2
    assert everything(path) == before
    err = capsys.readouterr().err
    assert is_one_sentence(err) and name in err
