"""Policies as plain values: what stands beside stored arrays, and the policy made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GroupSpec
from ludus.networks.acting import Acts
from ludus.networks.actor import Actor, ActorNetwork, Ensemble
from ludus.networks.policy import IndependentPolicy, NetworkPolicy
from ludus.networks.q_network import Exploration, QNetwork, QPolicy
from ludus.networks.tabular import TabularPolicy
from ludus.networks.torso import Network


def architecture(
    group: GroupSpec,
    network: Network | None = None,
    *,
    kind: str = "network",
    independent: bool = False,
    agent_ids: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """What `build` needs besides arrays to restore a policy of some `kind`: plain values, as stored beside them."""
    return {
        "kind": kind,
        "network": None if network is None else asdict(network),
        "independent": independent,
        "agent_ids": agent_ids,
        "options": options,
        "group": _plain(group),
    }


def build(architecture: dict[str, Any]) -> Acts:
    """A policy of this architecture, with shapes and types of arrays where stored ones belong."""
    found: Acts = eqx.filter_eval_shape(lambda: _whole(architecture))
    return found


def _whole(architecture: dict[str, Any]) -> Acts:
    group, kind = _group(architecture["group"]), architecture["kind"]
    if kind == "tabular":
        return TabularPolicy.uniform(group)
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in architecture["network"].items()}
    network, agent_ids, options = Network(**fields), architecture["agent_ids"], dict(architecture["options"])
    init = lambda key: KINDS[kind](group, network, agent_ids=agent_ids, key=key, **options)
    members = options.pop("ensemble", 1)

    def whole(key: Key[Array, ""]) -> Acts:
        if not architecture["independent"]:
            return init(key)
        return IndependentPolicy(jax.vmap(init)(jax.random.split(key, group.size)), group.size)

    key = jax.random.key(0)
    return whole(key) if members == 1 else Ensemble(jax.vmap(whole)(jax.random.split(key, members)), members)


def _values(
    group: GroupSpec, network: Network, *, exploration: Exploration, key: Key[Array, ""], **options: Any
) -> QPolicy:
    return QPolicy(QNetwork.init(group, network, key=key, **options), jnp.zeros(()), exploration)


def _actor(group: GroupSpec, network: Network, *, stochastic: bool, **options: Any) -> Actor:
    made = ActorNetwork.init(group, network, stochastic=stochastic, **options)
    return Actor(made, jnp.zeros(()), jnp.zeros((), bool), group.action, stochastic)


KINDS: dict[str, Callable[..., Acts]] = {"network": NetworkPolicy.init, "values": _values, "actor": _actor}


def _plain(group: GroupSpec) -> dict[str, Any]:
    action = group.action
    return {
        "name": group.name,
        "size": group.size,
        "team": group.team,
        "slots": group.slots,
        "masked": group.masked,
        "rivals": group.rivals,
        "one_hot": group.one_hot,
        "observation": list(group.observation.shape),
        "action": {"n": action.n}
        if isinstance(action, Discrete)
        else {"shape": list(action.shape), "low": action.low, "high": action.high},
    }


def _group(plain: dict[str, Any]) -> GroupSpec:
    g = dict(plain)
    action = g.pop("action")
    bound = lambda b: tuple(b) if isinstance(b, list) else b
    space = (
        Discrete(action["n"])
        if "n" in action
        else Box(tuple(action["shape"]), bound(action["low"]), bound(action["high"]))
    )
    return GroupSpec(**{**g, "observation": Box(tuple(g["observation"])), "action": space})
