"""Games that fail, for `bench/faults.py`: some of their steps raise, crash, hang or return NaN."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np

from ludus.core.host import HostEnvironment, HostStep
from ludus.envs.registry import make


class Faulty(HostEnvironment):
    """Another game, a share of whose steps fail."""

    def __init__(self, game: HostEnvironment, misbehave: str, rate: float):
        self.game, self.spec = game, game.spec
        self.misbehave, self.rate = misbehave, rate

    def reset(self, seed: int) -> HostStep:
        self._random = np.random.default_rng(time.monotonic_ns() + os.getpid())  # each copy fails at its own times
        return self.game.reset(seed)

    def step(self, actions: dict[str, np.ndarray]) -> HostStep:
        if self.misbehave and self._random.random() < self.rate:
            if self.misbehave == "raise":
                raise RuntimeError("a fault on purpose")
            if self.misbehave == "crash":
                os.abort()
            if self.misbehave == "hang":
                time.sleep(3600)
            step = self.game.step(actions)
            return replace(step, reward={name: x * np.float32("nan") for name, x in step.reward.items()})
        return self.game.step(actions)

    def close(self) -> None:
        self.game.close()


def spread(*, misbehave: str = "", rate: float = 0.01) -> Faulty:
    return Faulty(make("mpe2/simple_spread_v3"), misbehave, rate)


def pursuit(*, misbehave: str = "", rate: float = 0.01) -> Faulty:
    return Faulty(make("sisl/pursuit_v5"), misbehave, rate)
