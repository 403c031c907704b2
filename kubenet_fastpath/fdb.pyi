from collections.abc import Iterator, Mapping
from typing import Final, SupportsIndex, TypeAlias, TypeVar, final, overload

import numpy as np
from numpy.typing import NDArray

from .batch import PacketBatch

AGEING_MAX_S: Final[int]
RECORD: Final[np.dtype[np.void]]
RECORD_BYTES: Final[np.dtype[np.void]]

_Address: TypeAlias = str | SupportsIndex
_GivenKey: TypeAlias = _Address | tuple[_Address, SupportsIndex]
_Key: TypeAlias = str | tuple[str, int]  # text for VLAN 0, (text, vlan) else
_T = TypeVar("_T")

@final
class ForwardingDatabase:
    UNKNOWN: Final[int]
    LOCAL: Final[int]
    @property
    def isa(self) -> str: ...
    @property
    def ageing_s(self) -> float: ...
    @property
    def limit(self) -> int: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def n_learned(self) -> int: ...
    @property
    def gc_due(self) -> int: ...  # ns
    @property
    def nbytes(self) -> int: ...
    @property
    def counters(self) -> dict[str, int]: ...
    def __new__(
        cls,
        ageing_s: float = 300,
        limit: SupportsIndex = 0,
        seed: SupportsIndex | None = None,
        *,
        now: SupportsIndex = 0,  # ns
        isa: str | None = None,
    ) -> ForwardingDatabase: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: _GivenKey, /) -> bool: ...
    def __iter__(self) -> Iterator[_Key]: ...
    def __getitem__(self, key: _GivenKey, /) -> int: ...
    def __setitem__(self, key: _GivenKey, port: SupportsIndex, /) -> None: ...
    def __delitem__(self, key: _GivenKey, /) -> None: ...
    @overload
    def get(self, key: _GivenKey) -> int | None: ...
    @overload
    def get(self, key: _GivenKey, default: _T) -> int | _T: ...
    def keys(self) -> list[_Key]: ...
    def items(self) -> list[tuple[_Key, int]]: ...
    def add_static(
        self, mac: _Address, port: SupportsIndex, vlan: SupportsIndex = 0, *, sticky: bool = False
    ) -> None: ...
    def add_local(
        self, mac: _Address, port: SupportsIndex | None = None, vlan: SupportsIndex = 0
    ) -> None: ...
    def lookup(
        self,
        mac: NDArray[np.uint64] | PacketBatch,  # (N,)
        vlan: SupportsIndex | NDArray[np.uint16] = 0,  # or (N,)
        *,
        out: NDArray[np.int32] | None = None,  # (N,)
    ) -> NDArray[np.int32]: ...  # (N,)
    def learn(
        self,
        mac: NDArray[np.uint64] | PacketBatch,  # (N,)
        port: SupportsIndex | NDArray[np.uint16] | None = None,  # or (N,); a batch's own
        now: SupportsIndex | NDArray[np.int64] | None = None,  # or (N,), ns; a batch's own
        vlan: SupportsIndex | NDArray[np.uint16] = 0,  # or (N,)
    ) -> None: ...
    def switch(
        self,
        src: NDArray[np.uint64] | PacketBatch,  # (N,)
        dst: NDArray[np.uint64] | None = None,  # (N,)
        port: SupportsIndex | NDArray[np.uint16] | None = None,  # or (N,); a batch's own
        now: SupportsIndex | NDArray[np.int64] | None = None,  # or (N,), ns; a batch's own
        vlan: SupportsIndex | NDArray[np.uint16] = 0,  # or (N,)
        *,
        out: NDArray[np.int32] | None = None,  # (N,)
    ) -> NDArray[np.int32]: ...  # (N,)
    def age(self, now: int) -> int: ...
    def flush(self, port: SupportsIndex) -> int: ...
    def flush_learned(self, port: SupportsIndex | None = None) -> int: ...
    def to_records(self) -> NDArray[np.void]: ...  # (N,) of RECORD
    def show(self, names: Mapping[int, str] | None = None, bridge: str = "cbr0") -> str: ...

def restore(
    arguments: tuple[float, int, int | None],
    times: tuple[int, int, int],
    counters: dict[str, int],
    records: NDArray[np.void],
) -> ForwardingDatabase: ...
