"""A league that is killed again and again ends with the same ledger, bit for bit, as one left alone."""

from __future__ import annotations

import json
import random
import time

import pytest
from processes import finish, ludus, start

from ludus.storage.ledger import Ledger

TINY = [
    *("--num-envs", "16", "--steps", "4096", "--rollout-length", "8", "--network.hidden", "8"),
    *("--generations", "8", "--period", "1", "--seed", "3"),
]


def events(run):
    ledger = Ledger(run / "ledger.sqlite", read_only=True)
    ledger.verify()
    return [(e.key, json.dumps(e.body, sort_keys=True)) for e in ledger.events()]


def files(run):
    return {p.name: p.read_bytes() for p in (run / "policies").rglob("*.safetensors")}


@pytest.mark.parametrize(
    ("preset", "moments"),
    [
        pytest.param("alphastar", 2, marks=pytest.mark.slow),
        pytest.param("psro", 2, marks=pytest.mark.slow),
        pytest.param("pbt", 50, marks=pytest.mark.slow),
    ],
)
def test_a_killed_league_ends_as_one_left_alone(tmp_path, preset, moments):
    """Moments are random: while it compiles, trains, freezes, evaluates or writes."""
    command = ["league", preset, "spiel/kuhn_poker", *TINY, "--quiet"]
    begin = time.monotonic()
    code, _, err = ludus(*command, "--run-dir", "whole", cwd=tmp_path)
    assert code == 0, err
    alone = time.monotonic() - begin
    draw = random.Random(moments)
    killed = tmp_path / "killed"
    process, heads = start(*command, "--run-dir", "killed", cwd=tmp_path), []
    for _ in range(moments):
        time.sleep(draw.uniform(0.2, 1.0) * alone)
        process.kill()
        process.communicate()
        if (killed / "ledger.sqlite").exists():
            seen = events(killed)
            assert len({key for key, _ in seen}) == len(seen)
            assert seen[: len(heads)] == heads  # nothing that was written is lost or changed
            heads = seen
        again = ("league", "resume", "killed", "--quiet") if (killed / "league.toml").exists() else None
        process = start(*(again or (*command, "--run-dir", "killed")), cwd=tmp_path)
    code, _, err = finish(process)
    assert code == 0, err
    assert events(killed) == events(tmp_path / "whole")
    assert files(killed) == files(tmp_path / "whole")


def test_a_damaged_policy_is_named_and_left_out_and_its_rating_kept(tmp_path):
    command = ["league", "pfsp", "spiel/kuhn_poker", *TINY, "--quiet"]
    command[command.index("--generations") + 1] = "3"
    code, _, err = ludus(*command, "--run-dir", "run", cwd=tmp_path)
    assert code == 0, err
    bad = json.loads(next(b for k, b in events(tmp_path / "run") if k.startswith("policy/1/")))
    [path] = (tmp_path / "run" / "policies").rglob(f"{bad['file']}.safetensors")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, out, err = ludus("league", "resume", "run", "--generations", "5", "--json", cwd=tmp_path)
    assert code == 0, err
    assert bad["name"] in err and str(path.name) in err and "left out" in err
    found = json.loads(out)
    assert bad["name"] in found["ratings"]["elo"]
    assert all(bad["name"] not in mixture for mixture in found["meta_strategy"].values())
    later = [json.loads(b) for k, b in events(tmp_path / "run") if k.startswith(("training/4", "training/5"))]
    assert later and all(bad["name"] not in p for body in later for p, _ in body["matches"])


def test_a_second_process_is_refused(tmp_path):
    command = ["league", "pfsp", "spiel/kuhn_poker", *TINY, "--quiet"]
    command[command.index("--generations") + 1] = "500"
    first = start(*command, "--run-dir", "run", cwd=tmp_path)
    end = time.monotonic() + 60
    while not (tmp_path / "run" / "league.toml").exists() and time.monotonic() < end:
        time.sleep(0.05)
    code, _, err = ludus("league", "resume", "run", cwd=tmp_path)
    first.kill()
    first.communicate()
    assert code == 2 and "in use by another process" in err
