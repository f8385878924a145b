"""What gradient steps consume: minibatches that cost little to cut, in chunks that fit into a cache.

Without memory, minibatches are random sets of time steps over all environments: rows of a time-major array are
contiguous, and the cut is the same however environments are spread over devices. With memory, they are whole
sequences of some environments, one from each run of neighbours, for the same reason.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from ludus.algorithms.view import Glimpse
from ludus.core.policy import Memory
from ludus.core.sharding import shard_index

# Rows of a network whose activations stay in a host core's cache, by measurement.
CHUNK = 512
SEQUENCE_CHUNK = 1536  # with memory: smaller pieces make products too thin


class Batch(eqx.Module):
    """Experience ready for gradient steps. Time-major but for the memories, which lead with environments."""

    now: Glimpse
    start: Bool[Array, "time env"]
    legal: Bool[Array, "time env slot action"] | None
    action: Shaped[Array, "time env slot ..."]
    log_prob: Float[Array, "time env slot"]
    advantage: Float[Array, "time env slot"]
    target: Float[Array, "time env slot"]
    old_value: Float[Array, "time env slot"]  # as the critic predicted it, on its own scale
    weight: Bool[Array, "time env slot"]
    memory: Memory
    critic_memory: Memory

    @property
    def recurrent(self) -> bool:
        """Whether sequences must stay whole."""
        return bool(jax.tree.leaves((self.memory, self.critic_memory)))

    def shuffle(self, key: Key[Array, ""], parts: int) -> Int[Array, "part index"]:
        """Indices of each minibatch: time steps, or environments if sequences must stay whole."""
        time, envs = self.log_prob.shape[:2]
        if not self.recurrent:
            return jax.random.permutation(key, time).reshape(parts, -1)
        blocks = envs // parts
        first = shard_index() * blocks
        keys = jax.vmap(lambda b: jax.random.fold_in(key, b))(first + jnp.arange(blocks))
        order = jax.vmap(lambda k: jax.random.permutation(k, parts))(keys)
        return (order + parts * jnp.arange(blocks)[:, None]).T

    def fold(self) -> tuple[Batch, int]:
        """The same batch with runs of environments as further time steps, so that one step is a small piece; and
        into how many pieces a step was cut. Batches with memory stay as they are."""
        envs, slots = self.log_prob.shape[1:3]
        if self.recurrent or jax.default_backend() != "cpu":
            return self, 1
        pieces = next(p for p in range(1, envs + 1) if envs % p == 0 and (envs // p * slots <= CHUNK or p == envs))
        return jax.tree.map(lambda x: x.reshape(x.shape[0] * pieces, envs // pieces, *x.shape[2:]), self), pieces

    def chunks(self, index: Int[Array, " index"], pieces: int) -> Int[Array, "chunk index"]:
        """A minibatch's indices into the folded batch, in chunks whose activations stay in a core's cache."""
        index = (index[:, None] * pieces + jnp.arange(pieces)).reshape(-1)
        if jax.default_backend() != "cpu":
            return index[None]
        count = index.shape[0]
        rows, most = (self.log_prob[:, 0].size, SEQUENCE_CHUNK) if self.recurrent else (self.log_prob[0].size, CHUNK)
        chunks = next(c for c in range(1, count + 1) if count % c == 0 and (count // c * rows <= most or c == count))
        return index.reshape(chunks, -1)

    def take(self, index: Int[Array, " index"]) -> Batch:
        """One minibatch."""
        if not self.recurrent:
            return jax.tree.map(lambda x: x[index], self)
        timed = lambda tree: jax.tree.map(lambda x: x[:, index], tree)
        whole = lambda tree: jax.tree.map(lambda x: x[index], tree)
        fields = {f: timed(getattr(self, f)) for f in self.__dataclass_fields__ if not f.endswith("memory")}
        return Batch(**fields, memory=whole(self.memory), critic_memory=whole(self.critic_memory))
