"""A node's connections inspected by one thread while another one forwards."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import frames
import numpy as np
import pytest
import strategies

import kubenet_fastpath as kf
from kubenet_fastpath.connection import CtEvent
from kubenet_fastpath.lock import Lock

ROUNDS, FLOWS = 60, 512


def batches(node: kf.Node) -> list[kf.PacketBatch]:
    """First packets of UDP flows from a pod to the internet, each batch of its own source ports."""
    port = node.ports["pod1"]
    assert port.pod is not None
    made = []
    for turn in range(ROUNDS):
        first = 1024 + turn * FLOWS
        l3 = [
            frames.ipv4(str(port.pod.ip), "198.51.100.7", 17, frames.udp(first + i, 53)) for i in range(FLOWS)
        ]
        packets = [frames.packet("0a:58:0a:f4:01:01", str(port.pod.mac), one) for one in l3]
        made.append(kf.PacketBatch.from_frames(packets, port=port, time=turn))
    return made


def beside(act: Callable[[], None], look: Callable[[], None]) -> None:
    """Run `look` again and again until `act` is through, and once more behind it."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # whatever it is, the test is to know
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        look()
    thread.join()
    look()
    assert not failed


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_or_torn(workers: int) -> None:
    many = kf.Node(strategies.make_node().config, workers=workers)
    for name, (ip, lladdr) in strategies.PODS.items():
        many.attach(kf.Pod(name, ip=ip, mac=lladdr))
    work = batches(many)
    table = many.connections
    table.watch(1 << 17)
    table.count_ports()
    kinds: list[np.ndarray] = []

    def forward() -> None:
        for batch in work:
            many.forward(batch)

    def look() -> None:
        kinds.append(table.events()["kind"])
        records, full, named = table.to_records(), table.occupancy(), json.loads(table.to_json())
        # a call of the node is through or has not begun
        assert len(records) % FLOWS == full["count"] % FLOWS == len(named) % FLOWS == 0
        assert len(records) <= full["count"] <= len(named)
        assert sum(full["states"].values()) == full["count"]
        assert table.ports_in_use()["used"].sum() % FLOWS == 0
        assert table.to_text(0).count("\n") % FLOWS == 0

    beside(forward, look)
    seen = np.concatenate(kinds)
    assert (seen == CtEvent.NEW).sum() == len(table) == ROUNDS * FLOWS
    assert table.events_lost == 0


def test_a_lock_is_entered_again_by_who_holds_it() -> None:
    lock, entered = Lock(), []

    def other() -> None:
        with lock:
            entered.append(len(entered))

    with lock:
        thread = threading.Thread(target=other)
        with lock, lock:
            thread.start()
        assert not entered
        with lock:
            pass
        assert not entered
    thread.join()
    assert entered == [0]
