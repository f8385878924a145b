"""A run directory has one owner."""

from __future__ import annotations

import os
import subprocess
import sys

from processes import HERE, STEPS_PER_CALL, TINY, is_one_sentence, newest, rows

RACERS = 20


def test_of_twenty_racing_starts_exactly_one_wins(tmp_path):
    run = tmp_path / "run"
    command = ["train", "ppo", "matrix/climbing", *TINY, "--steps", str(3 * STEPS_PER_CALL), "--quiet"]
    subprocess.run(
        [sys.executable, str(HERE / "racers.py"), str(RACERS), str(tmp_path), *command, "--run-dir", str(run)],
        check=True,
        timeout=180,
        env=os.environ | {"LUDUS_HOST_DEVICES": "1", "JAX_PLATFORMS": "cpu"},
    )
    codes = [int((tmp_path / f"{k}.code").read_text()) for k in range(RACERS)]
    errors = {k: (tmp_path / f"{k}.err").read_text() for k in range(RACERS) if codes[k] != 0}
    assert sorted(codes) == [0] + [2] * (RACERS - 1), errors
    assert all(is_one_sentence(text) and str(run) in text for text in errors.values()), errors
    assert newest(run) == len(rows(run)) == 3, "the winner was not disturbed"
