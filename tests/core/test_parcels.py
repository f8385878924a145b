"""Modules that are pickled arrive whole, and leave again."""

import gc
import pickle
import weakref

import cloudpickle
import equinox as eqx
import jax
import pytest

from ludus.core.parcels import travel_lightly
from ludus.core.spaces import Discrete
from ludus.networks.policy import NetworkPolicy
from ludus.networks.torso import Network
from toys import Drift, assert_close


@pytest.mark.parametrize("package", [pickle, cloudpickle])
def test_a_module_arrives_whole_and_is_not_kept(package):
    """Equinox keeps what pickle makes as if it were never finished; learners on a cluster grew by that."""
    travel_lightly()
    group = Drift(agents=2).spec.groups[0]
    sent = NetworkPolicy.init(group, Network(hidden=(4,), memory="gru", memory_size=3), key=jax.random.key(0))
    found = pickle.loads(package.dumps(sent))
    assert jax.tree.structure(found) == jax.tree.structure(sent) and isinstance(group.action, Discrete)
    assert_close(found, sent, 0.0)
    with pytest.raises(AttributeError):
        found.anything = 1  # it is as frozen as any other
    gone = weakref.ref(found)
    del found
    gc.collect()
    assert gone() is None


def test_one_made_by_hand_is_finished_as_before():
    travel_lightly()

    class Pair(eqx.Module):
        first: int
        second: int = eqx.field(static=True)

    assert jax.tree.leaves(Pair(1, 2)) == [1]
