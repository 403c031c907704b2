"""AddressPool: one number an address, as long as somebody needs it; held against a dictionary."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet_fastpath.address_pool import AddressPool

addresses = st.one_of(st.integers(0, 20), st.integers(0, (1 << 128) - 1), st.just(1 << 64), st.just(1 << 127))


@given(st.lists(addresses, max_size=300), st.integers(0, 2**64 - 1))
def test_like_a_dictionary(wanted: list[int], seed: int) -> None:
    pool, model = AddressPool(seed), {0: 0}
    for address in wanted:
        handle = pool.pin(address)
        assert model.setdefault(address, handle) == handle
    assert len(pool) == len(model) == len(set(model.values()))
    for address, handle in model.items():
        assert pool[handle] == address
    handles = np.array(list(model.values()))
    texts = [bytes(row) for row in pool.octets(handles)]
    assert texts == [address.to_bytes(16, "big") for address in model]
    copy = pickle.loads(pickle.dumps(pool))
    assert len(copy) == len(pool)
    assert all(copy.pin(address) == handle for address, handle in model.items())


def test_many() -> None:
    pool = AddressPool()
    handles = [pool.pin(number << 3) for number in range(50_000)]
    assert handles == list(range(50_000))
    assert pool[49_999] == 49_999 << 3


def test_errors() -> None:
    pool = AddressPool()
    with pytest.raises(IndexError, match="handle 1 is out of range for 1"):
        pool[1]
    with pytest.raises(OverflowError):
        pool.pin(1 << 128)
    assert len(pool) == 1
