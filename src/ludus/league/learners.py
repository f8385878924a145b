"""What an arena does to learners and policies as values: stacking, taking over, letting go of exploration."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ludus.core.algorithm import Learner
from ludus.core.errors import UsageError
from ludus.league.member import Member
from ludus.networks.policy import IndependentPolicy
from ludus.networks.q_network import QPolicy

Policies = dict[str, Any]  # by group


def check_alike(policies: list[Any], what: str) -> None:
    """Raise `UsageError` where policies differ in structure."""
    kind = lambda p: (jax.tree.structure(p), [(x.shape, x.dtype) for x in jax.tree.leaves(p)])
    if any(kind(p) != kind(policies[0]) for p in policies[1:]):
        raise UsageError(f"policies of group '{what}' differ in their networks, so they cannot play in one program")


def stack(policies: list[Any], size: int, what: str) -> Any:
    """Policies of one structure side by side, the first repeated up to `size`."""
    check_alike(policies, what)
    return beside([*policies, *policies[:1] * (size - len(policies))])


@jax.jit  # one program, not one for each kind of array
def beside(trees: list[Any]) -> Any:
    """Trees of one structure as one, along a new first axis."""
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


@partial(jax.jit, static_argnames="count")
def apart(tree: Any, count: int) -> list[Any]:
    """What stands along the first axis, as trees of their own."""
    return [jax.tree.map(lambda x, k=k: x[k], tree) for k in range(count)]


def without_exploring(policy: Any) -> Any:
    """A policy of action values, greedy; others as they are."""
    if isinstance(policy, IndependentPolicy):
        return replace(policy, stack=without_exploring(policy.stack))
    return replace(policy, amount=jnp.zeros_like(policy.amount)) if isinstance(policy, QPolicy) else policy


def with_policies(member: Member, learner: Learner, policies: Policies) -> Learner:
    """A learner whose policies are these: every array that its policies are made of is replaced."""
    own = jax.tree.leaves(member.algorithm.policy(learner))
    new = jax.tree.leaves({name: policies[name] for name in member.algorithm.policy(learner)})
    if hasattr(member.algorithm, "settled"):
        kind = type(member.algorithm).__name__.lower()
        raise UsageError(f"{kind} stores what it settles on alone, so it cannot go on from a frozen policy")
    replaced = {id(a): b for a, b in zip(own, new, strict=True)}
    taken = jax.tree.map(lambda x: jnp.asarray(replaced.get(id(x), x)), learner)
    places = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(taken)}
    # Target networks begin as copies of what was taken over.
    aimed = lambda path, x: places.get(jax.tree_util.keystr(path).replace(".target", ".models"), x)
    return jax.tree_util.tree_map_with_path(aimed, taken)


def new_optimiser(learner: Learner, fresh: Learner) -> Learner:
    """What another knows, with nothing in the optimiser yet."""
    pick = lambda path, new, old: new if "optimiser" in jax.tree_util.keystr(path) else old
    return jax.tree_util.tree_map_with_path(pick, fresh, learner)
