"""The ledger and the policy store: nothing twice, nothing changed unseen, memory that stays bounded."""

from __future__ import annotations

import sqlite3
import time
import tracemalloc

import numpy as np
import pytest

from ludus.core.errors import UsageError
from ludus.storage.arrays import DamagedFileError
from ludus.storage.ledger import Event, Ledger
from ludus.storage.policy_store import PolicyStore


def test_events_come_back_in_order_and_chain(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.commit([Event("a", "match", {"x": 0.1}), Event("b", "policy", {})])
    head = ledger.commit([Event("c", "match", {"x": float("inf")})])
    again = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    assert [e.key for e in again.events()] == ["a", "b", "c"]
    assert [e.body for e in again.events("match")] == [{"x": 0.1}, {"x": float("inf")}]
    assert again.head == head
    again.verify()


def test_a_match_counts_once_and_a_batch_is_all_or_nothing(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    head = ledger.commit([Event("match/1", "match", {})])
    with pytest.raises(UsageError, match="UNIQUE"):
        ledger.commit([Event("match/2", "match", {}), Event("match/1", "match", {})])
    assert [e.key for e in ledger.events()] == ["match/1"] and ledger.head == head
    ledger.commit([Event("match/2", "match", {})])
    ledger.verify()


def test_a_changed_event_is_found(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.commit([Event(str(k), "match", {"won": k}) for k in range(5)])
    ledger.close()
    database = sqlite3.connect(tmp_path / "ledger.sqlite")
    database.execute("UPDATE event SET body = '{\"won\": 9}' WHERE key = '2'")
    database.commit()
    with pytest.raises(DamagedFileError, match="event 3"):
        Ledger(tmp_path / "ledger.sqlite").verify()


def test_a_file_that_is_no_ledger_is_a_sentence(tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(UsageError, match="cannot use the ledger"):
        Ledger(tmp_path / "ledger.sqlite")


def test_equal_policies_are_one_file_and_damage_is_named(tmp_path):
    store = PolicyStore(tmp_path, lambda arrays, metadata, name: arrays, keep=0)
    first = store.put({"w": np.arange(4.0)}, {"kind": "policy"})
    assert store.put({"w": np.arange(4.0)}, {"kind": "policy"}) == first
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    np.testing.assert_array_equal(store.get(first)["w"], np.arange(4.0))
    path = store.path(first)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=first):
        store.get(first)
    store.remove(first)
    with pytest.raises(DamagedFileError, match="cannot be read"):
        store.get(first)


@pytest.mark.slow
def test_five_thousand_policies_are_saved_fast_in_flat_memory(tmp_path):
    """p99 of a save at most 50 ms, its median no longer at the end than at the start, and no memory kept."""
    store = PolicyStore(tmp_path, lambda arrays, metadata, name: arrays)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    times, draw = [], np.random.default_rng(0)
    tracemalloc.start()
    for k in range(5000):
        arrays = {"w": draw.normal(size=(64, 64)).astype(np.float32), "b": draw.normal(size=64).astype(np.float32)}
        begin = time.perf_counter()
        name = store.put(arrays, {"kind": "policy"})
        ledger.commit([Event(f"policy/{k}", "policy", {"file": name})])
        times.append(time.perf_counter() - begin)
        store.get(name)
        if k == 1000:
            early = tracemalloc.get_traced_memory()[0]
    late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"save p50 {np.median(times) * 1e3:.1f} ms, p99 {np.quantile(times, 0.99) * 1e3:.1f} ms")
    assert late < early + 4e6
