"""Which route of a VNet wins, beside a plain reading of the rules; and what a VNet refuses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath.fabric import Fabric, Nic
from kubenet_fastpath.vnet import PLATFORM, PRIVATE, RouteSource

SPACE, PEER = "10.224.0.0/12", "172.20.0.0/16"
NIC = Nic(name="nic", mac=1, address=int(IPv4Address("10.224.0.4")))
KINDS = (
    kf.HopKind.APPLIANCE,
    kf.HopKind.NONE,
    kf.HopKind.INTERNET,
    kf.HopKind.VNET_LOCAL,
    kf.HopKind.GATEWAY,
)

# few bits differ, so that prefixes cover one another and meet the system's
NETWORKS = [
    IPv4Address(text)
    for text in (
        "0.0.0.0",
        "10.0.0.0",
        "10.224.0.0",
        "10.225.0.0",
        "10.240.0.0",
        "100.64.0.0",
        "168.63.129.16",
    )
]
PREFIXES = st.builds(
    lambda network, length: str(IPv4Network((int(network), length), strict=False)),
    st.sampled_from(NETWORKS),
    st.sampled_from([0, 1, 8, 9, 10, 12, 16, 17, 24, 31, 32]),
)
ROUTES = st.builds(
    lambda prefix, hop: kf.UserRoute(
        prefix=prefix, hop=hop, address="10.224.0.9" if hop is kf.HopKind.APPLIANCE else None
    ),
    PREFIXES,
    st.sampled_from(KINDS),
)
ADDRESSES = st.builds(
    lambda network, low: (int(network) + low) % 2**32,
    st.sampled_from(NETWORKS),
    st.sampled_from([0, 1, 256, 65536, -1]),
)


def model(dst: int, space: str, routes: list[kf.UserRoute], bgp: list[str]) -> kf.HopKind:
    """One rule after the other, as the documentation states them."""
    address = IPv4Address(dst)
    if any(address in IPv4Network(prefix) for prefix in PLATFORM):
        return kf.HopKind.PLATFORM
    inside = {space: kf.HopKind.VNET_LOCAL, PEER: kf.HopKind.PEERING}
    candidates = [(IPv4Network("0.0.0.0/0"), 2, kf.HopKind.INTERNET)]
    candidates += [(IPv4Network(prefix), 2, kf.HopKind.NONE) for prefix in PRIVATE if prefix not in inside]
    candidates += [(IPv4Network(prefix), 2, kind) for prefix, kind in inside.items()]
    candidates += [(IPv4Network(route.prefix), 0, route.hop) for route in routes]
    for prefix in map(IPv4Network, bgp):
        if not any(prefix.subnet_of(IPv4Network(own)) for own in inside):
            candidates.append((prefix, 1, kf.HopKind.GATEWAY))
    covering = [(-net.prefixlen, source, kind) for net, source, kind in candidates if address in net]
    return min(covering, key=lambda row: row[:2])[2]


@settings(max_examples=400)
@given(
    st.sampled_from([SPACE, "10.0.0.0/8"]),
    st.lists(ROUTES, max_size=8, unique_by=lambda route: route.prefix),
    st.lists(PREFIXES, max_size=4, unique=True),
    st.lists(ADDRESSES, min_size=1, max_size=8),
)
def test_the_route_that_wins(
    space: str, routes: list[kf.UserRoute], bgp: list[str], addresses: list[int]
) -> None:
    vnet = kf.Vnet(address_space=(space,), peers=(PEER,), routes=tuple(routes), bgp=tuple(bgp))
    fabric = Fabric(vnet, [NIC])
    for dst in addresses:
        assert fabric.route_of(0, dst).hop is model(dst, space, routes, bgp)


def test_a_route_table_counts_where_it_is_associated() -> None:
    route = kf.UserRoute(prefix="10.244.1.0/24", hop=kf.HopKind.NONE)
    vnet = kf.Vnet(address_space=("10.224.0.0/12",), routes=(route,), associated=("10.224.0.0/16",))
    other = Nic(name="other", mac=2, address=int(IPv4Address("10.225.0.4")))
    fabric = Fabric(vnet, [NIC, other])
    dst = int(IPv4Address("10.244.1.1"))
    assert fabric.route_of(0, dst).source is RouteSource.USER
    assert fabric.route_of(1, dst).source is RouteSource.SYSTEM


def test_a_table_has_400_routes() -> None:
    rows = [
        kf.UserRoute(prefix=f"10.{244 + i // 256}.{i % 256}.0/24", hop=kf.HopKind.NONE) for i in range(401)
    ]
    kf.Vnet(address_space=(SPACE,), routes=tuple(rows[:400]))
    with pytest.raises(kf.ConfigError, match="401 routes"):
        kf.Vnet(address_space=(SPACE,), routes=tuple(rows))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"address_space": ()}, "needs an address space"),
        ({"peers": ("10.230.0.0/16",)}, "overlaps"),
        ({"associated": ("10.0.0.0/16",)}, "not inside the VNet"),
        ({"hosts": (kf.VnetHost(name="vm", ip="10.0.0.1"),)}, "neither in the VNet nor in a peer"),
        ({"routes": (kf.UserRoute(prefix="1.0.0.0/8", hop=kf.HopKind.NONE),) * 2}, "twice"),
    ],
)
def test_what_a_vnet_refuses(fields: dict, words: str) -> None:
    with pytest.raises(kf.ConfigError, match=words):
        kf.Vnet(**({"address_space": (SPACE,)} | fields))


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        (kf.HopKind.APPLIANCE, None),
        (kf.HopKind.NONE, "10.0.0.1"),
        (kf.HopKind.PEERING, None),
        (kf.HopKind.PLATFORM, None),
    ],
)
def test_what_a_route_refuses(hop: kf.HopKind, address: str | None) -> None:
    with pytest.raises(kf.ConfigError):
        kf.UserRoute(prefix="10.0.0.0/8", hop=hop, address=address)


def test_two_nics_do_not_share_an_address() -> None:
    with pytest.raises(kf.ConfigError, match="both own"):
        Fabric(kf.Vnet(address_space=(SPACE,)), [NIC, Nic(name="twin", mac=2, address=NIC.address)])


def test_every_destination_has_a_route() -> None:
    fabric = Fabric(kf.Vnet(address_space=(SPACE,)), [NIC])
    table, rows = fabric._routes[1]
    hops = table.lookup(np.array([0, 2**32 - 1, 0x0A000001], np.uint32))
    assert [rows[h].hop for h in hops] == [kf.HopKind.INTERNET, kf.HopKind.INTERNET, kf.HopKind.NONE]
