"""Topology files, of our own and of kubectl and az: whatever is in them, a topology, or an error in one sentence.

Bytes are a file, or, where they begin with less than a space, changes of what the tests know to be right.
"""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

from test_topology_file import AKS, ROUTES, VNET, objects

import kubenet_fastpath as kf
from kubenet_fastpath.topology import sample_topology
from kubenet_fastpath.topology_file import read_topology, topology_json

from ..choices import Choices

LONGEST = 4096
LINES = True
GIVEN: list[Any] = [
    topology_json(sample_topology()),
    [{"kind": "List", "items": objects()}, AKS, VNET, ROUTES],
    {"kind": "List", "items": objects()},
    {"nodes": {"a": "10.224.0.4"}, "pods": {"p": "a"}, "services": {"s": {"ip": "10.0.0.9", "port": 80}}},
]
ODD: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1,
        65536,
        2**31,
        2**63,
        2**70,
        1.5,
        1e400,
        "",
        "None",
        "0",
        "80",
        "10.0.0.0/8",
        "10.224.0.4",
    ),
    *("10.244.0.5:80", "0.0.0.0", "::1", "fd00::/64", "tcp", "UDP", "Local", "\ud800", "\0", "e" * 300),
    *([], {}, [[]], [None], {"": None}, [1, "a"], {"ip": "10.0.0.1"}),
]
EXAMPLES = [
    *(json.dumps(given).encode() for given in GIVEN[1:]),
    *(bytes([given]) for given in range(len(GIVEN))),
    *(bytes([given, op, 5 * op, 0, 7]) for given in range(len(GIVEN)) for op in range(5)),
]


def places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a tree, from the top down."""
    keys = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found: list[tuple[Any, Any]] = []
    for key, value in keys:
        found += [(tree, key), *places(value)]
    return found


def changed(choices: Choices) -> Any:
    """What the tests know to be right, with a few changes."""
    top = [copy.deepcopy(GIVEN[choices.number() % len(GIVEN)])]
    while choices:
        operation, where = choices.number() % 5, places(top)
        if not where:
            break
        container, key = where[choices.number(2) % len(where)]
        if operation == 0:
            container[key] = copy.deepcopy(choices.one(ODD))
        elif operation == 1:
            del container[key]
        elif operation == 2:
            other, name = where[choices.number(2) % len(where)]
            container[key] = copy.deepcopy(other[name])
        elif operation == 3:
            container[key] = choices.take(choices.number() % 16).decode("latin-1")
        elif isinstance(container, dict) and isinstance(key, str):
            container[choices.take(choices.number() % 8).decode("latin-1")] = container.pop(key)
    return top[0] if top else None


def run(data: bytes) -> None:
    if data[:1] < b" ":
        data = json.dumps(changed(Choices(data))).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "topology.json")
        path.write_bytes(data)
        try:
            topology = read_topology([path]).topology
        except (kf.AddressError, kf.ConfigError) as refusal:
            said = str(refusal)
        else:
            path.write_text(json.dumps(topology_json(topology)))
            assert topology_json(read_topology([path]).topology) == topology_json(topology)
            return
    assert said.isprintable(), said
