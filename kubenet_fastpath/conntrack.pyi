from collections.abc import Iterator
from typing import Any, Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .address_pool import AddressPool
from .batch import PacketBatch
from .lock import Lock
from .records import ADDRESSES as ADDRESSES
from .records import EVENT as EVENT
from .records import EVENT6 as EVENT6
from .records import PORTS as PORTS
from .records import PORTS6 as PORTS6
from .records import RECORD as RECORD
from .records import RECORD6 as RECORD6
from .records import census_name as census_name
from .timeouts import Timeouts

COUNTERS: Final[tuple[str, ...]]
FILTERS: Final[tuple[str, ...]]
TUPLE: Final[np.dtype[np.void]]

@final
class ConnectionTable:
    MISS: Final = 0xFFFFFFFF
    guard: Lock
    TUPLE: Final[np.dtype[np.void]]
    @property
    def isa(self) -> str: ...
    @property
    def capacity(self) -> int: ...
    @property
    def timeouts(self) -> Timeouts: ...
    @property
    def seed(self) -> int: ...
    @property
    def addresses(self) -> AddressPool | None: ...
    @property
    def loose(self) -> bool: ...
    @property
    def liberal(self) -> bool: ...
    @property
    def counters(self) -> dict[str, int]: ...
    @property
    def nbytes(self) -> int: ...
    def __new__(
        cls,
        capacity: int = 262144,
        *,
        timeouts: Timeouts | None = None,
        seed: int = 0,
        loose: bool = True,
        liberal: bool = False,
        checksum: bool = True,
        ignore_invalid_rst: bool = False,
        max_retrans: int = 3,
        reserve: bool = False,
        addresses: AddressPool | None = None,
        isa: str | None = None,
    ) -> ConnectionTable: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[np.void]: ...
    def __getstate__(self) -> dict[str, Any]: ...
    def track(
        self,
        src: NDArray[np.uint32] | PacketBatch,  # (N,); a batch has all columns itself
        dst: NDArray[np.uint32] | None = None,  # (N,)
        sport: NDArray[np.uint16] | None = None,  # (N,)
        dport: NDArray[np.uint16] | None = None,  # (N,)
        proto: NDArray[np.uint8] | None = None,  # (N,)
        now: int | NDArray[np.int64] | None = None,  # ns, scalar or (N,)
        *,
        length: NDArray[np.uint16] | None = None,  # (N,) bytes
        flags: NDArray[np.uint8] | None = None,  # (N,)
        seq: NDArray[np.uint32] | None = None,  # (N,)
        ack: NDArray[np.uint32] | None = None,  # (N,)
        window: NDArray[np.uint16] | None = None,  # (N,)
        zone: int = 0,
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]: ...  # conn (N,), info (N,)
    def masquerade(
        self,
        src: NDArray[np.uint32] | PacketBatch,  # (N,); a batch has all columns itself
        dst: NDArray[np.uint32] | None = None,  # (N,)
        sport: NDArray[np.uint16] | None = None,  # (N,)
        dport: NDArray[np.uint16] | None = None,  # (N,)
        proto: NDArray[np.uint8] | None = None,  # (N,)
        now: int | NDArray[np.int64] | None = None,  # ns, scalar or (N,)
        *,
        address: int | tuple[int, int],
        ports: tuple[int, int] | None = None,
        random: bool = False,
        length: NDArray[np.uint16] | None = None,  # (N,) bytes
        zone: int = 0,
    ) -> tuple[
        NDArray[np.uint32], NDArray[np.uint8], NDArray[np.void]
    ]: ...  # conn (N,), info (N,), leaves (N,) TUPLE
    def lookup(
        self,
        src: NDArray[np.uint32] | PacketBatch,  # (N,); a batch has all columns itself
        dst: NDArray[np.uint32] | None = None,  # (N,)
        sport: NDArray[np.uint16] | None = None,  # (N,)
        dport: NDArray[np.uint16] | None = None,  # (N,)
        proto: NDArray[np.uint8] | None = None,  # (N,)
        now: int | NDArray[np.int64] | None = None,  # ns, scalar or (N,)
        *,
        zone: int = 0,
        out: NDArray[np.uint32]
        | tuple[NDArray[np.uint32], NDArray[np.bool_]]
        | None = None,  # (N,), or both results
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]: ...  # conn (N,), reply (N,)
    def lookup_tuples(
        self,
        tuples: NDArray[np.void],  # (N,) TUPLE
        now: int | NDArray[np.int64],  # ns, scalar or (N,)
        *,
        out: NDArray[np.uint32]
        | tuple[NDArray[np.uint32], NDArray[np.bool_]]
        | None = None,  # (N,), or both results
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]: ...
    def probes(
        self,
        src: NDArray[np.uint32],  # (N,)
        dst: NDArray[np.uint32],  # (N,)
        sport: NDArray[np.uint16],  # (N,)
        dport: NDArray[np.uint16],  # (N,)
        proto: NDArray[np.uint8],  # (N,)
        *,
        zone: int = 0,
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]: ...  # lines (N,), rows (N,)
    def to_records(self, now: int | None = None, *, family: int = 4) -> NDArray[np.void]: ...
    def to_text(
        self, now: int, *, extended: bool = False, accounting: bool = True, family: int = 4
    ) -> str: ...
    def to_json(self, now: int | None = None) -> str: ...
    def occupancy(self) -> dict[str, Any]: ...
    def count_ports(self, on: bool = True) -> None: ...
    def ports_in_use(
        self, *, family: int = 4, ports: tuple[int, int] = (1024, 65535)
    ) -> NDArray[np.void]: ...
    def watch(self, capacity: int = 65536) -> None: ...
    @property
    def events_lost(self) -> int: ...
    def events(self, *, family: int = 4) -> NDArray[np.void]: ...
    @staticmethod
    def events_text(events: NDArray[np.void], *, accounting: bool = True) -> str: ...
    def statistics_text(self) -> str: ...
    @staticmethod
    def statistics_of(text: str) -> dict[str, int]: ...
    def load_text(self, text: str, now: int = 0) -> None: ...
    @classmethod
    def from_text(cls, text: str, now: int = 0, **settings: Any) -> ConnectionTable: ...
    def delete(self, index: ArrayLike | None = None, **fields: int) -> int: ...
    def flush(self) -> int: ...
    def expire(self, now: int) -> int: ...
