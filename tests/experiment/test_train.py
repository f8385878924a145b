"""The loop around the program: what a stop in the middle of an evaluation leaves."""

from __future__ import annotations

import pytest

import ludus
from ludus.experiment import train
from ludus.experiment.interrupt import Interrupted

CALL = 8192


def test_a_stop_during_an_evaluation_loses_nothing_before_it(tmp_path, monkeypatch):
    """The state is saved before it is evaluated; who resumes makes the evaluation that is missing, and only once."""
    algorithm = ludus.PPO(rollout_length=32, network=ludus.Network(hidden=(8,)))
    settings = {"steps": 4 * CALL, "num_envs": 8, "evaluate_every": 2 * CALL, "evaluate_episodes": 8}
    whole = ludus.train(algorithm, "matrix/climbing", run_dir=tmp_path / "whole", **settings)
    assert len(whole.evaluations) == 2
    honest = train.Trainer._evaluate

    def stopped(self, state, call):
        raise Interrupted(130)

    monkeypatch.setattr(train, "_UNSAVED", 0.0)
    monkeypatch.setattr(train.Trainer, "_evaluate", stopped)
    with pytest.raises(Interrupted):
        ludus.train(algorithm, "matrix/climbing", run_dir=tmp_path / "cut", **settings)
    monkeypatch.setattr(train.Trainer, "_evaluate", honest)
    says: list[str] = []
    resumed = ludus.resume(tmp_path / "cut", display=Heard(says))
    assert any(f"at {2 * CALL:,} steps" in text for text in says)
    assert resumed.history == whole.history and resumed.evaluations == whole.evaluations


class Heard:
    """A display that keeps what is said."""

    def __init__(self, says: list[str]):
        self.say = self.warn = says.append

    def update(self, numbers):
        """Nothing is shown."""

    def close(self):
        """Nothing to close."""
