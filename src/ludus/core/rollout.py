"""What actors hand to learners: time-major experience of one block of environments."""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, Shaped

from ludus.core.policy import Memory


class Moment(eqx.Module):
    """What one group sees at some moment that no step of the rollout starts from."""

    observation: Shaped[Array, "*lead slot ..."]
    legal: Bool[Array, "*lead slot action"] | None
    acting: Bool[Array, "*lead agent"]
    seat: Int[Array, "*lead slot"] | None
    state: Shaped[Array, "*lead *state"] | None


class GroupRollout(eqx.Module):
    """One group's experience: T steps of E environments."""

    observation: Shaped[Array, "time env slot ..."]
    legal: Bool[Array, "time env slot action"] | None
    acting: Bool[Array, "time env agent"]
    seat: Int[Array, "time env slot"] | None
    action: Shaped[Array, "time env slot ..."]
    log_prob: Float[Array, "time env slot"]  # of the policy that acted
    reward: Float[Array, "time env agent"]
    memory: Memory  # the policy's, before the first step: [env, agent, ...]
    next: Moment  # after the last step: [env, ...]
    last: Moment | None  # the true last moments of truncated episodes: [row, env, ...]
    extras: dict[str, Shaped[Array, "time env slot ..."]] = eqx.field(default_factory=dict)  # what else was decided
    memories: Memory = ()  # the policy's, after every step: [time, env, agent, ...]; () where not kept


class Rollout(eqx.Module):
    """T steps of E environments, all groups.

    Auto-reset hides the last observation of an episode; where a truncation calls for its value it stands in `last`,
    a buffer of as many rows an environment as truncations fit into the rollout. Row k of environment e belongs to
    step `last_time[k, e]`, which is T for unused rows.
    """

    groups: dict[str, GroupRollout]
    state: Shaped[Array, "time env *state"] | None
    start: Bool[Array, "time env"]  # whether the step's observation opens an episode
    terminated: Bool[Array, "time env"]
    truncated: Bool[Array, "time env"]
    last_time: Int[Array, "row env"] | None
    progress: Float[Array, ""]  # the share of the planned steps taken before this rollout, 0 to 1

    def restrict(self, names: tuple[str, ...]) -> Rollout:
        """The same rollout with only these groups."""
        kept = {name: group for name, group in self.groups.items() if name in names}
        restricted: Rollout = eqx.tree_at(lambda rollout: rollout.groups, self, kept)
        return restricted
