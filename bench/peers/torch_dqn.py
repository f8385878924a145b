"""DQN on CartPole-v1 as CleanRL publishes it (PyTorch, one gymnasium environment), timed: one JSON object.

The loop is written here from the published hyperparameters: Adam 2.5e-4, buffer 10,000, γ 0.99, target copied every
500 steps, batch 128, ε 1 → 0.05 over half of 500,000 steps, learning from step 10,000 on, one gradient step each 10
steps, layers of 120 and 84 units. Needs ``pip install torch gymnasium``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from importlib.metadata import version

import gymnasium
import numpy as np
import torch
from torch import nn

TOTAL, BUFFER, START, BATCH = 500_000, 10_000, 10_000, 128


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40_000, help="timed after the first 10,000, which only act")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    env = gymnasium.make("CartPole-v1")
    online, target = network(), network()
    target.load_state_dict(online.state_dict())
    optimiser = torch.optim.Adam(online.parameters(), lr=2.5e-4)
    seen, following = np.zeros((BUFFER, 4), np.float32), np.zeros((BUFFER, 4), np.float32)
    actions, rewards, ends = np.zeros(BUFFER, np.int64), np.zeros(BUFFER, np.float32), np.zeros(BUFFER, np.float32)
    observation, _ = env.reset(seed=1)
    begin = 0.0
    for step in range(START + given.steps):
        if step == START:
            begin = time.perf_counter()
        epsilon = max(1 - 0.95 * step / (0.5 * TOTAL), 0.05)
        if random.random() < epsilon:
            action = int(env.action_space.sample())
        else:
            with torch.no_grad():
                action = int(online(torch.as_tensor(observation)[None]).argmax())
        after, reward, terminated, truncated, _ = env.step(action)
        at = step % BUFFER
        seen[at], following[at], actions[at], rewards[at], ends[at] = observation, after, action, reward, terminated
        observation = env.reset()[0] if terminated or truncated else after
        if step >= START:
            if step % 10 == 0:
                index = rng.integers(0, BUFFER, BATCH)
                with torch.no_grad():
                    best = target(torch.as_tensor(following[index])).max(1).values
                    goal = torch.as_tensor(rewards[index]) + 0.99 * best * (1 - torch.as_tensor(ends[index]))
                value = online(torch.as_tensor(seen[index])).gather(1, torch.as_tensor(actions[index])[:, None])[:, 0]
                loss = nn.functional.mse_loss(goal, value)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            if step % 500 == 0:
                target.load_state_dict(online.state_dict())
    seconds = time.perf_counter() - begin
    result = {
        "system": "torch",
        "loop": "written",
        "env_steps": given.steps,
        "seconds": seconds,
        "env_steps_per_second": given.steps / seconds,
        "compile_seconds": 0.0,
        "versions": {name: version(name) for name in ("torch", "gymnasium")},
        "cpu_count": os.cpu_count(),
    }
    print(json.dumps(result, indent=None if given.json else 1))


if __name__ == "__main__":
    main()
