from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .address_pool import AddressPool
from .conntrack import ConnectionTable
from .fdb import ForwardingDatabase
from .fib import RouteTable
from .fragment_table import FragmentTable
from .neighbour import NeighbourTable
from .path_mtu import PathMtuTable
from .service_table import ServiceTable

@final
class Pipeline:
    @property
    def routes(self) -> RouteTable: ...
    @property
    def fdb(self) -> ForwardingDatabase: ...
    @property
    def connections(self) -> ConnectionTable: ...
    @property
    def neighbours(self) -> NeighbourTable: ...
    @property
    def fragments(self) -> FragmentTable: ...
    @property
    def services(self) -> ServiceTable: ...
    @property
    def routes6(self) -> RouteTable: ...
    @property
    def neighbours6(self) -> NeighbourTable: ...
    @property
    def fragments6(self) -> FragmentTable: ...
    @property
    def addresses(self) -> AddressPool: ...
    @property
    def path_mtus(self) -> PathMtuTable: ...
    def __init__(
        self,
        routes: RouteTable,
        fdb: ForwardingDatabase,
        connections: ConnectionTable,
        neighbours: NeighbourTable,
        fragments: FragmentTable,
        services: ServiceTable,
        routes6: RouteTable,
        neighbours6: NeighbourTable,
        fragments6: FragmentTable,
        addresses: AddressPool,
        path_mtus: PathMtuTable,
    ) -> None: ...
    def configure(
        self,
        *,
        bridge_nf: bool,
        drop_invalid: bool,
        verify_checksums: bool,
        dedup: tuple[int, int, int] | None,
        masquerade: bool,
        masquerade_flags: int,
        masquerade_ports: tuple[int, int],
        direct: Sequence[tuple[int, int]],
        cluster: tuple[int, int],
        service_flags: int,
        icmp_interval_ns: int,
        icmp_per_second: int,
        icmp_burst: int,
        seed: int,
        multicast_snooping: bool = True,
        snat: Sequence[tuple[int, int, int, int, int, int]] = (),
        proxy_delay_ns: int = 0,
    ) -> None: ...
    def configure6(
        self,
        *,
        bridge_nf: bool,
        masquerade: bool,
        direct: Sequence[tuple[bytes, int]],
        cluster: tuple[bytes, int],
        icmp_interval_ns: int,
        local_hop: int,
        anycast_hop: int,
        dedup: tuple[bytes, bytes, int] | None = None,
    ) -> None: ...
    def reseed(self, seed: int) -> None: ...
    def set_localhost_masquerade(self, on: bool) -> None: ...
    def set_interface(
        self,
        index: int,
        *,
        kind: int,
        mac: int,
        mtu: int,
        addresses: Sequence[tuple[int, int]] = (),
        bridge: int = 0,
        promiscuous: bool = False,
        hairpin: bool = False,
        proxy_arp: bool = False,
        rp_filter: int = 0,
        send_redirects: bool = True,
        route_localnet: bool = False,
        group_fwd_mask: int = 0,
        addresses6: Sequence[tuple[bytes, int]] = (),
        link_hop: int = 0xFFFFFFFF,
    ) -> None: ...
    def remove_interface(self, index: int) -> None: ...
    def set_hops(self, hops: Sequence[tuple[int, int, int, int]]) -> None: ...
    def forward(
        self,
        data: NDArray[np.uint8],  # (B,)
        offset: NDArray[np.int64],  # (N,)
        length: NDArray[np.uint32],  # (N,)
        wire_length: NDArray[np.uint32],  # (N,)
        port: NDArray[np.uint16],  # (N,)
        time: NDArray[np.int64],  # (N,) ns
    ) -> tuple[
        NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]
    ]: ...
    def start_notes(self, timed: bool) -> None: ...
    def take_notes(self) -> NDArray[Any]: ...  # (N,) of recorder.NOTE
    def advance(self, now: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]: ...
    @property
    def now(self) -> int | None: ...
    def verdict_counts(self) -> list[int]: ...
    def reason_counts(self) -> list[int]: ...
    fast_path: bool
    isa: str
    workers: int
    def shape(self, length: int, share: int, least: int, rest: int) -> None: ...
    def stretches(self) -> tuple[int, int]: ...
    def paths(self) -> tuple[int, int, int, int]: ...
    def peers(self) -> tuple[int, int]: ...
    def totals(self) -> dict[str, int]: ...
    def traffic(self, index: int) -> tuple[int, int, int, int]: ...
