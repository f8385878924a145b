"""Modules that are pickled arrive whole, and leave again."""

import gc
import pickle
import weakref

import cloudpickle
import jax
import pytest

import ludus.runtime.ray.roles  # noqa: F401  what every process of a cluster imports
from ludus.networks.policy import NetworkPolicy
from ludus.networks.torso import Network
from toys import Drift, assert_close


@pytest.mark.parametrize("package", [pickle, cloudpickle])
def test_a_module_arrives_whole_and_is_not_kept(package):
    """Equinox keeps what pickle makes as if it were never finished; learners on a cluster grew by that."""
    group = Drift(agents=2).spec.groups[0]
    sent = NetworkPolicy.init(group, Network(hidden=(4,), memory="gru", memory_size=3), key=jax.random.key(0))
    found = pickle.loads(package.dumps(sent))
    assert jax.tree.structure(found) == jax.tree.structure(sent)
    assert_close(found, sent, 0.0)
    with pytest.raises(AttributeError):
        found.anything = 1  # it is as frozen as any other
    gone = weakref.ref(found)
    del found
    gc.collect()
    assert gone() is None
