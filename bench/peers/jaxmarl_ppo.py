"""Benchmark peer: JaxMARL's IPPO and MAPPO training on MPE simple_spread.

Three of JaxMARL's published baselines, written afresh from their published hyperparameters and behaviour, so
that they can be timed without their experiment-tracking and configuration dependencies:

* ``ippo_ff``: independent PPO, feed-forward actor and critic (``baselines/IPPO/ippo_ff_mpe.py``);
* ``ippo_rnn``: independent PPO, one GRU under both heads (``baselines/IPPO/ippo_rnn_mpe.py``);
* ``mappo_rnn``: GRU actor, and a separate GRU critic that sees the observations of all agents
  (``baselines/MAPPO/mappo_rnn_mpe.py``).

The hyperparameters in ``VARIANTS`` are those of ``ippo_ff_mpe.yaml``, ``ippo_rnn_mpe.yaml`` and
``mappo_homogenous_rnn_mpe.yaml`` beside those scripts. Network shapes, initialisation, optimiser, losses, the
order in which random keys are spent, and the layout of rollouts, epochs and minibatches follow the scripts;
the environment, its auto-reset and the episode log are JaxMARL's own. What the scripts send to a tracker is
reduced to a few numbers per update here, and stays on the device until the run is over.

``--checkout PATH`` times the peer's own training function from a work tree instead, with the tracker, the
configuration framework and the host callback replaced by stand-ins that do nothing.

An environment step is one step of one environment, in which all its agents move once. Returns are per agent:
the sum of an agent's rewards over an episode, averaged over agents and episodes. (JaxMARL's MPE log
multiplies by the number of agents; that factor is taken out again.) Note that JaxMARL's simple_spread looks
at its step counter before advancing it, so that an episode lasts one step longer than ``max_steps``: 26
steps, not 25. ``evaluation_episode_length`` reports the length that was seen.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.linen.initializers import constant, orthogonal
from flax.training.train_state import TrainState


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what is written to stdout to stderr; by file descriptor, since imports replace ``sys.stdout``."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


with quiet_stdout():  # the package greets on stdout when imported
    import jaxmarl
    from jaxmarl.wrappers.baselines import MPELogWrapper

Array = jax.Array
ENVIRONMENT = "MPE_simple_spread_v3"
WIDTH = 128  # of the recurrent networks: embedding, GRU and heads
GAMMA = 0.99
GAE_LAMBDA = 0.95
EPOCHS = 4
ENTROPY_WEIGHT = 0.01
MAX_GRADIENT_NORM = 0.5


@dataclass(frozen=True)
class Variant:
    """What sets one published baseline apart from the other two."""

    recurrent: bool
    centralised: bool
    learning_rate: float
    minibatches: int
    clip: float
    value_weight: float
    gae_unroll: int
    script: str
    config: str


VARIANTS = {
    "ippo_ff": Variant(
        recurrent=False,
        centralised=False,
        learning_rate=2.5e-4,
        minibatches=4,
        clip=0.2,
        value_weight=0.5,
        gae_unroll=8,
        script="baselines/IPPO/ippo_ff_mpe.py",
        config="ippo_ff_mpe.yaml",
    ),
    "ippo_rnn": Variant(
        recurrent=True,
        centralised=False,
        learning_rate=5e-4,
        minibatches=2,
        clip=0.3,
        value_weight=1.0,
        gae_unroll=16,
        script="baselines/IPPO/ippo_rnn_mpe.py",
        config="ippo_rnn_mpe.yaml",
    ),
    "mappo_rnn": Variant(
        recurrent=True,
        centralised=True,
        learning_rate=2e-3,
        minibatches=4,
        clip=0.2,
        value_weight=0.5,
        gae_unroll=16,
        script="baselines/MAPPO/mappo_rnn_mpe.py",
        config="mappo_homogenous_rnn_mpe.yaml",
    ),
}


@dataclass(frozen=True)
class Run:
    """One benchmark run: which baseline, at what size."""

    variant: Variant
    num_envs: int
    num_steps: int
    updates: int
    anneal_updates: int
    seeds: int
    seed: int

    @property
    def steps_per_update(self) -> int:
        """Environment steps in one update, over all seeds."""
        return self.num_envs * self.num_steps * self.seeds


class Inputs(NamedTuple):
    """What the networks see; actors are ordered agent by agent, and within an agent by environment."""

    obs: Array
    joint: Array | None  # observations of all agents, for a centralised critic
    starts: Array | None  # whether an episode starts here, for a recurrent network


class Rollout(NamedTuple):
    """What one environment step leaves for the update."""

    inputs: Inputs
    action: Array
    log_prob: Array
    value: Array
    reward: Array
    terminal: Array


class Minibatch(NamedTuple):
    """One share of a rollout, with its targets and the recurrent state it begins from."""

    memory: Any
    rollout: Rollout
    advantage: Array
    target: Array


class State(NamedTuple):
    """Everything a run carries from one update to the next."""

    learners: tuple[TrainState, ...]
    env_state: Any
    obs: dict[str, Array]
    starts: Array
    memory: Any
    key: Array


def dense(features: int, scale: float) -> nn.Dense:
    """A linear layer with orthogonal weights and zero biases."""
    return nn.Dense(features, kernel_init=orthogonal(scale), bias_init=constant(0.0))


class FeedForward(nn.Module):
    """Actor and critic, each with two hidden tanh layers of 64."""

    actions: int

    @nn.compact
    def __call__(self, obs: Array) -> tuple[distrax.Categorical, Array]:
        def tower(out: int, scale: float) -> Array:
            x = nn.tanh(dense(64, 2**0.5)(obs))
            x = nn.tanh(dense(64, 2**0.5)(x))
            return dense(out, scale)(x)

        policy = distrax.Categorical(logits=tower(self.actions, 0.01))
        return policy, tower(1, 1.0).squeeze(-1)


class Memory(nn.Module):
    """One step of a GRU whose state is cleared where an episode starts."""

    @nn.compact
    def __call__(self, memory: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        x, starts = step
        memory = jnp.where(starts[:, None], jnp.zeros_like(memory), memory)
        return nn.GRUCell(features=x.shape[-1])(memory, x)


def recurrent_trunk(memory: Array, steps: tuple[Array, Array]) -> tuple[Array, Array]:
    """Embedding and GRU, as submodules of the calling module; returns the new memory and the features."""
    x, starts = steps
    x = nn.relu(dense(WIDTH, 2**0.5)(x))
    over_time = nn.scan(Memory, variable_broadcast="params", split_rngs={"params": False})
    return over_time()(memory, (x, starts))


def head(features: Array, out: int, scale: float) -> Array:
    """One hidden relu layer and a linear output, as submodules of the calling module."""
    hidden = nn.relu(dense(WIDTH, 2.0)(features))
    return dense(out, scale)(hidden)


class RecurrentActorCritic(nn.Module):
    """Actor and critic heads on one GRU."""

    actions: int

    @nn.compact
    def __call__(self, memory: Array, steps: tuple[Array, Array]) -> tuple[Array, distrax.Categorical, Array]:
        memory, features = recurrent_trunk(memory, steps)
        policy = distrax.Categorical(logits=head(features, self.actions, 0.01))
        return memory, policy, head(features, 1, 1.0).squeeze(-1)


class RecurrentActor(nn.Module):
    """A policy with its own GRU."""

    actions: int

    @nn.compact
    def __call__(self, memory: Array, steps: tuple[Array, Array]) -> tuple[Array, distrax.Categorical]:
        memory, features = recurrent_trunk(memory, steps)
        return memory, distrax.Categorical(logits=head(features, self.actions, 0.01))


class RecurrentCritic(nn.Module):
    """A value function with its own GRU."""

    @nn.compact
    def __call__(self, memory: Array, steps: tuple[Array, Array]) -> tuple[Array, Array]:
        memory, features = recurrent_trunk(memory, steps)
        return memory, head(features, 1, 1.0).squeeze(-1)


def networks(variant: Variant, actions: int) -> tuple[nn.Module, ...]:
    """The variant's networks: the actor (or actor and critic in one), then a separate critic if any."""
    if variant.centralised:
        return RecurrentActor(actions), RecurrentCritic()
    return (RecurrentActorCritic(actions) if variant.recurrent else FeedForward(actions),)


def blank_memory(variant: Variant, batch: int) -> Any:
    """The recurrent state at the start of an episode, one array per network."""
    zeros = jnp.zeros((batch, WIDTH))
    return ((zeros, zeros) if variant.centralised else (zeros,)) if variant.recurrent else ()


def forward(
    variant: Variant, apply: tuple[Callable, ...], params: tuple, memory: Any, inputs: Inputs
) -> tuple[Any, distrax.Categorical, Array]:
    """Policy and value; inputs lead with a time axis where the variant is recurrent."""
    if not variant.recurrent:
        policy, value = apply[0](params[0], inputs.obs)
        return memory, policy, value
    if not variant.centralised:
        new, policy, value = apply[0](params[0], memory[0], (inputs.obs, inputs.starts))
        return (new,), policy, value
    actor_memory, policy = apply[0](params[0], memory[0], (inputs.obs, inputs.starts))
    critic_memory, value = apply[1](params[1], memory[1], (inputs.joint, inputs.starts))
    return (actor_memory, critic_memory), policy, value


def forward_once(
    variant: Variant, learners: tuple[TrainState, ...], memory: Any, inputs: Inputs
) -> tuple[Any, distrax.Categorical, Array]:
    """``forward`` for one step; the time axis a recurrent variant needs stays on the policy and value."""
    if variant.recurrent:
        inputs = jax.tree.map(lambda x: x[None], inputs)
    apply, params = tuple(x.apply_fn for x in learners), tuple(x.params for x in learners)
    return forward(variant, apply, params, memory, inputs)


def by_actor(env: Any, per_agent: dict[str, Array]) -> Array:
    """Per-agent batches over environments, laid end to end."""
    return jnp.concatenate([per_agent[agent] for agent in env.agents])


def by_agent(env: Any, actors: Array) -> dict[str, Array]:
    """The inverse of ``by_actor``."""
    return dict(zip(env.agents, jnp.split(actors, env.num_agents), strict=True))


def observe(env: Any, variant: Variant, obs: dict[str, Array], starts: Array) -> Inputs:
    """The networks' inputs for one step."""
    joint = None
    if variant.centralised:
        together = jnp.concatenate([obs[agent] for agent in env.agents], axis=-1)
        joint = jnp.tile(together, (env.num_agents, 1))
    return Inputs(by_actor(env, obs), joint, starts if variant.recurrent else None)


def make_optimiser(run: Run) -> optax.GradientTransformation:
    """Adam under a global-norm clip, its rate falling linearly to nothing, once per update."""
    per_update = run.variant.minibatches * EPOCHS

    def rate(count: Array) -> Array:
        return run.variant.learning_rate * (1.0 - (count // per_update) / run.anneal_updates)

    return optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), optax.adam(rate, eps=1e-5))


def make_start(run: Run, env: Any) -> Callable[[Array], State]:
    """The function from a key to a run's first state."""
    variant = run.variant
    size = env.observation_space(env.agents[0]).shape[0]
    sizes = (size, size * env.num_agents)
    modules = networks(variant, env.action_space(env.agents[0]).n)
    optimiser = make_optimiser(run)

    def create(module: nn.Module, key: Array, size: int) -> TrainState:
        sample: tuple = (jnp.zeros(size),)
        if variant.recurrent:
            steps = (jnp.zeros((1, run.num_envs, size)), jnp.zeros((1, run.num_envs), bool))
            sample = (blank_memory(variant, run.num_envs)[0], steps)
        return TrainState.create(apply_fn=module.apply, params=module.init(key, *sample), tx=optimiser)

    def start(key: Array) -> State:
        key, *network_keys = jax.random.split(key, 1 + len(modules))
        learners = tuple(map(create, modules, network_keys, sizes))
        key, reset_key = jax.random.split(key)
        obs, env_state = jax.vmap(env.reset)(jax.random.split(reset_key, run.num_envs))
        key, run_key = jax.random.split(key)
        actors = env.num_agents * run.num_envs
        memory = blank_memory(variant, actors)
        return State(learners, env_state, obs, jnp.zeros(actors, bool), memory, run_key)

    return start


def make_env_step(run: Run, env: Any) -> Callable[[State, None], tuple[State, tuple[Rollout, tuple]]]:
    """One step of every environment under the present policy."""
    variant = run.variant

    def env_step(state: State, _: None) -> tuple[State, tuple[Rollout, tuple]]:
        key, action_key = jax.random.split(state.key)
        inputs = observe(env, variant, state.obs, state.starts)
        memory, policy, value = forward_once(variant, state.learners, state.memory, inputs)
        action = policy.sample(seed=action_key)
        log_prob = policy.log_prob(action)
        if variant.recurrent:
            action, log_prob, value = action[0], log_prob[0], value[0]
        key, step_key = jax.random.split(key)
        step_keys = jax.random.split(step_key, run.num_envs)
        moves = by_agent(env, action)
        obs, env_state, reward, done, info = jax.vmap(env.step)(step_keys, state.env_state, moves)
        terminal = jnp.tile(done["__all__"], env.num_agents)
        rollout = Rollout(inputs, action, log_prob, value, by_actor(env, reward), terminal)
        episodes = (info["returned_episode_returns"], info["returned_episode"])
        return State(state.learners, env_state, obs, by_actor(env, done), memory, key), (rollout, episodes)

    return env_step


def advantages(variant: Variant, rollout: Rollout, last_value: Array) -> Array:
    """Generalised advantage estimates."""

    def back(carry: tuple[Array, Array], step: Rollout) -> tuple[tuple[Array, Array], Array]:
        advantage, next_value = carry
        alive = 1 - step.terminal
        delta = step.reward + GAMMA * next_value * alive - step.value
        advantage = delta + GAMMA * GAE_LAMBDA * alive * advantage
        return (advantage, step.value), advantage

    begin = (jnp.zeros_like(last_value), last_value)
    return jax.lax.scan(back, begin, rollout, reverse=True, unroll=variant.gae_unroll)[1]


def make_loss(variant: Variant, apply: tuple[Callable, ...]) -> Callable:
    """PPO's clipped loss of a minibatch, and its parts.

    Separate networks meet only in the sum, so that their gradients stay apart.
    """

    def loss(params: tuple, batch: Minibatch) -> tuple[Array, dict]:
        old, clip = batch.rollout, variant.clip
        memory = jax.tree.map(lambda x: x[0], batch.memory)
        _, policy, value = forward(variant, apply, params, memory, old.inputs)
        bounded = old.value + jnp.clip(value - old.value, -clip, clip)
        errors = jnp.maximum(jnp.square(value - batch.target), jnp.square(bounded - batch.target))
        value_loss = 0.5 * errors.mean()

        log_ratio = policy.log_prob(old.action) - old.log_prob
        ratio = jnp.exp(log_ratio)
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)
        actor_loss = -gain.mean()
        entropy = policy.entropy().mean()
        total = actor_loss + variant.value_weight * value_loss - ENTROPY_WEIGHT * entropy
        return total, {
            "total_loss": total,
            "value_loss": value_loss,
            "actor_loss": actor_loss,
            "entropy": entropy,
            "ratio": ratio.mean(),
            "approximate_kl": (ratio - 1 - log_ratio).mean(),
            "clipped_share": (jnp.abs(ratio - 1) > clip).mean(),
        }

    return loss


def shuffle(variant: Variant, key: Array, batch: Minibatch) -> Minibatch:
    """Minibatches along a new leading axis: of single transitions, or of whole sequences where recurrent."""
    steps, actors = batch.advantage.shape
    if not variant.recurrent:
        order = jax.random.permutation(key, steps * actors)

        def deal(x: Array) -> Array:
            x = jnp.take(x.reshape(steps * actors, *x.shape[2:]), order, axis=0)
            return x.reshape(variant.minibatches, -1, *x.shape[1:])

    else:
        order = jax.random.permutation(key, actors)

        def deal(x: Array) -> Array:
            x = jnp.take(x, order, axis=1)
            return x.reshape(x.shape[0], variant.minibatches, -1, *x.shape[2:]).swapaxes(0, 1)

    return jax.tree.map(deal, batch)


def make_update(run: Run, env: Any) -> Callable[[State, None], tuple[State, dict]]:
    """One update: a rollout, its advantages, and the epochs of minibatches over it."""
    variant, env_step = run.variant, make_env_step(run, env)

    def update(state: State, _: None) -> tuple[State, dict]:
        first_memory = jax.tree.map(lambda x: x[None], state.memory)
        state, (rollout, episodes) = jax.lax.scan(env_step, state, None, run.num_steps)
        inputs = observe(env, variant, state.obs, state.starts)
        last_value = forward_once(variant, state.learners, state.memory, inputs)[2]
        advantage = advantages(variant, rollout, last_value[0] if variant.recurrent else last_value)
        batch = Minibatch(first_memory, rollout, advantage, advantage + rollout.value)
        loss = make_loss(variant, tuple(x.apply_fn for x in state.learners))
        gradient = jax.value_and_grad(loss, has_aux=True)

        def learn(learners: tuple[TrainState, ...], minibatch: Minibatch) -> tuple[tuple, dict]:
            (_, report), grads = gradient(tuple(x.params for x in learners), minibatch)
            return tuple(x.apply_gradients(grads=g) for x, g in zip(learners, grads, strict=True)), report

        def epoch(carry: tuple, _: None) -> tuple[tuple, dict]:
            learners, key = carry
            key, order_key = jax.random.split(key)
            learners, report = jax.lax.scan(learn, learners, shuffle(variant, order_key, batch))
            return (learners, key), report

        (learners, key), report = jax.lax.scan(epoch, (state.learners, state.key), None, EPOCHS)
        returns, finished = episodes
        report = jax.tree.map(jnp.mean, report)
        report["return_sum"] = jnp.sum(returns * finished) / env.num_agents
        report["return_count"] = jnp.sum(finished)
        return state._replace(learners=learners, key=key), report

    return update


def over_seeds(run: Run, function: Callable) -> Callable:
    """``function`` over all seeds at once; a single seed is left unbatched, as the peer runs it."""
    return function if run.seeds == 1 else jax.vmap(function)


def run_key(run: Run) -> Array:
    """The run's key, or one key per seed."""
    key = jax.random.PRNGKey(run.seed)
    return key if run.seeds == 1 else jax.random.split(key, run.seeds)


def compile_for(function: Callable, *args: Any, donate: bool = False) -> tuple[Callable, float]:
    """``function`` compiled ahead of time for these arguments, and the seconds that took."""
    begin = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=(0,) if donate else ()).lower(*args).compile()
    return compiled, time.perf_counter() - begin


def mean_return(reports: list[dict], last: int) -> list[float | None]:
    """Each seed's mean return of the episodes that ended in the last ``last`` updates of the reports."""

    def total(name: str) -> Array:
        columns = [jnp.atleast_2d(report[name]) for report in reports]
        return jnp.concatenate(columns, axis=1)[:, -last:].sum(axis=1)

    pairs = zip(total("return_sum").tolist(), total("return_count").tolist(), strict=True)
    return [sums / counts if counts else None for sums, counts in pairs]


def average(values: list[float | None]) -> float | None:
    """Mean of the values that are there."""
    present = [x for x in values if x is not None]
    return sum(present) / len(present) if present else None


def train_written(run: Run, env: Any, curve_every: int | None) -> tuple[tuple[TrainState, ...], dict]:
    """Compile, then time, the loop above; returns the trained networks and the measurements."""
    update = make_update(run, env)
    chunk = min(curve_every or run.updates, run.updates)
    lengths = [chunk] * (run.updates // chunk) + ([run.updates % chunk] if run.updates % chunk else [])
    begin_run = make_start(run, env)
    # Seeds start one after another: batched QR (in the orthogonal initialiser) can deadlock on few CPU cores.
    begin_all = begin_run if run.seeds == 1 else partial(jax.lax.map, begin_run)
    start, compile_seconds = compile_for(begin_all, run_key(run))
    state = jax.block_until_ready(start(run_key(run)))
    programs = {}
    for length in sorted(set(lengths)):
        advance = over_seeds(run, lambda carry, n=length: jax.lax.scan(update, carry, None, n))
        programs[length], seconds = compile_for(advance, state, donate=True)
        compile_seconds += seconds

    reports, times = [], []
    begin = time.perf_counter()
    for length in lengths:
        state, report = jax.block_until_ready(programs[length](state))
        times.append(time.perf_counter() - begin)
        reports.append(report)

    done, curve = 0, []
    for length, seconds, report in zip(lengths, times, reports, strict=True):
        done += length
        curve.append([done * run.steps_per_update, seconds, average(mean_return([report], length))])
    finals = mean_return(reports, max(1, round(run.updates * 0.05)))
    return state.learners, {
        "loop": "written",
        "seconds": times[-1],
        "compile_seconds": compile_seconds,
        "final_return": average(finals),
        "final_return_by_seed": finals,
        "curve": curve if curve_every else None,
    }


def stand_ins() -> dict[str, types.ModuleType]:
    """Modules with the few names the peer's scripts take from their tracker and configuration framework."""
    wandb, hydra, omegaconf = (types.ModuleType(name) for name in ("wandb", "hydra", "omegaconf"))
    wandb.log = wandb.init = lambda *args, **kwargs: None
    hydra.main = lambda **kwargs: lambda function: function
    omegaconf.OmegaConf = types.SimpleNamespace(to_container=dict)
    modules = {"wandb": wandb, "hydra": hydra, "omegaconf": omegaconf}
    if importlib.util.find_spec("matplotlib") is None:
        modules |= {name: types.ModuleType(name) for name in ("matplotlib", "matplotlib.pyplot")}
    return modules


def load_script(path: Path) -> types.ModuleType:
    """The peer's script as a module, its tracker and host callback silenced."""
    sys.modules.update(stand_ins())
    jax.experimental.io_callback = lambda *args, **kwargs: None
    spec = importlib.util.spec_from_file_location(f"peer_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_config(path: Path) -> dict[str, Any]:
    """The peer's own settings; YAML 1.1 leaves numbers such as 5e-4 as text, so those are read here."""
    import yaml

    def number(value: Any) -> Any:
        with contextlib.suppress(TypeError, ValueError):
            return float(value) if isinstance(value, str) else value
        return value

    return {name: number(value) for name, value in yaml.safe_load(path.read_text()).items()}


def train_checkout(run: Run, env: Any, checkout: Path) -> tuple[tuple[TrainState, ...], dict]:
    """Compile, then time, the peer's own training function, set-up of networks and environments included.

    It anneals over the updates it runs, and not all variants hand back the returns they saw: the return
    reported is that of the last episode each environment finished.
    """
    script = checkout / run.variant.script
    config = load_config(script.parent / "config" / run.variant.config)
    config["NUM_ENVS"], config["NUM_STEPS"] = run.num_envs, run.num_steps
    config["TOTAL_TIMESTEPS"] = run.num_envs * run.num_steps * run.updates
    train = over_seeds(run, load_script(script).make_train(config))
    program, compile_seconds = compile_for(train, run_key(run))
    begin = time.perf_counter()
    out = jax.block_until_ready(program(run_key(run)))
    seconds = time.perf_counter() - begin
    state = out["runner_state"][0] if run.variant.recurrent else out["runner_state"]
    learners = state[0] if run.variant.centralised else (state[0],)
    returns = state[1].returned_episode_returns.reshape(run.seeds, -1).mean(axis=1) / env.num_agents
    return learners, {
        "loop": "checkout",
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "final_return": float(returns.mean()),
        "final_return_by_seed": returns.tolist(),
        "curve": None,
    }


def make_play(variant: Variant, env: Any, episodes: int) -> Callable:
    """The function that plays fresh episodes side by side, each to its end, with sampled actions."""
    actors = env.num_agents * episodes

    def play(learners: tuple[TrainState, ...], key: Array) -> tuple[Array, Array, Array]:
        def step(carry: tuple, key: Array) -> tuple[tuple, tuple[Array, Array]]:
            env_state, obs, starts, memory, alive = carry
            action_key, step_key = jax.random.split(key)
            memory, policy, _ = forward_once(variant, learners, memory, observe(env, variant, obs, starts))
            moves = by_agent(env, policy.sample(seed=action_key).reshape(actors))
            step_keys = jax.random.split(step_key, episodes)
            obs, env_state, reward, done, _ = jax.vmap(env.step)(step_keys, env_state, moves)
            reward = jnp.stack([reward[agent] for agent in env.agents]).mean(axis=0) * alive
            carry = (env_state, obs, by_actor(env, done), memory, alive & ~done["__all__"])
            return carry, (reward, alive)

        reset_key, play_key = jax.random.split(key)
        obs, env_state = jax.vmap(env.reset)(jax.random.split(reset_key, episodes))
        starts, alive = jnp.zeros(actors, bool), jnp.ones(episodes, bool)
        carry = (env_state, obs, starts, blank_memory(variant, actors), alive)
        step_keys = jax.random.split(play_key, env.max_steps + 2)
        carry, (rewards, alive) = jax.lax.scan(step, carry, step_keys)
        return rewards.sum(axis=0).mean(), alive.sum(axis=0).mean(), carry[-1].any()

    return play


def evaluate(run: Run, learners: tuple[TrainState, ...], episodes: int) -> dict[str, Any]:
    """Mean return per agent, and length, of fresh episodes under the trained policy."""
    play = over_seeds(run, make_play(run.variant, jaxmarl.make(ENVIRONMENT), episodes))
    keys = over_seeds(run, lambda key: jax.random.fold_in(key, 1))(run_key(run))
    returns, lengths, unfinished = jax.jit(play)(learners, keys)
    if bool(unfinished.any()):
        raise RuntimeError("an evaluation episode did not end")
    return {
        "evaluation_episodes": episodes,
        "evaluation_return_per_agent": float(returns.mean()),
        "evaluation_return_by_seed": jnp.atleast_1d(returns).tolist(),
        "evaluation_episode_length": float(lengths.mean()),
    }


def parse_arguments() -> argparse.Namespace:
    """Command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=sorted(VARIANTS), required=True)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--num-steps", type=int, default=128, help="steps per environment and update")
    parser.add_argument("--updates", type=int, help="updates to run (default: as --total-steps makes)")
    parser.add_argument(
        "--total-steps",
        type=float,
        default=1e7,
        help="environment steps per seed over which the learning rate falls to nothing (over "
        "--updates, if that is longer)",
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds trained at once, in one program")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate-episodes", type=int, default=0, help="episodes per seed, after training")
    parser.add_argument("--curve-every", type=int, help="train in pieces of this many updates, each timed")
    parser.add_argument("--checkout", type=Path, help="work tree of the peer: time its own training function")
    parser.add_argument("--json", action="store_true", help="one line of JSON (otherwise indented)")
    args = parser.parse_args()
    for name in ("num_envs", "num_steps", "updates", "seeds", "curve_every"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if args.updates is None and args.total_steps < args.num_steps * args.num_envs:
        parser.error("--total-steps is less than one update")
    if args.checkout and args.curve_every:
        parser.error("--curve-every needs the written loop: the peer's own runs in one piece")
    if args.checkout and args.seeds > 1 and jax.default_backend() == "cpu":
        parser.error("--checkout takes one seed on a CPU, where the peer's batched set-up can deadlock")
    return args


def plan(args: argparse.Namespace) -> Run:
    """The run the command line asks for."""
    scheduled = int(args.total_steps // args.num_steps // args.num_envs)
    updates = args.updates or scheduled
    anneal = updates if args.checkout else max(scheduled, updates)
    return Run(VARIANTS[args.variant], args.num_envs, args.num_steps, updates, anneal, args.seeds, args.seed)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train, evaluate if asked, and put the measurements together."""
    run, env = plan(args), MPELogWrapper(jaxmarl.make(ENVIRONMENT))
    if args.checkout:
        learners, result = train_checkout(run, env, args.checkout)
    else:
        learners, result = train_written(run, env, args.curve_every)
    env_steps = run.updates * run.steps_per_update
    device = jax.devices()[0]
    return {
        "system": "jaxmarl",
        "variant": args.variant,
        "env_steps": env_steps,
        "env_steps_per_second": env_steps / result["seconds"],
        "num_envs": run.num_envs,
        "num_steps": run.num_steps,
        "updates": run.updates,
        "anneal_updates": run.anneal_updates,
        "seeds": run.seeds,
        "seed": run.seed,
        **result,
        **(evaluate(run, learners, args.evaluate_episodes) if args.evaluate_episodes else {}),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "jaxmarl", "flax", "optax", "distrax")}
        | {"python": platform.python_version()},
        "device": f"{device.platform}: {device.device_kind}",
        "cpu_count": os.cpu_count(),
    }


def main() -> None:
    """Print one JSON object on stdout; everything else goes to stderr."""
    args = parse_arguments()
    with quiet_stdout():
        result = measure(args)
    print(json.dumps(result, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
