import os
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, Literal, SupportsIndex, TypeAlias, TypeVar, final, overload

import numpy as np
from numpy.typing import NDArray

_Address: TypeAlias = str | SupportsIndex | IPv4Address | IPv6Address
_Prefix: TypeAlias = str | tuple[_Address, SupportsIndex] | IPv4Network | IPv6Network
_Addresses: TypeAlias = NDArray[Any]  # (N,) uint32; (N, 16) uint8, (N, 2) uint64 or (N,) pairs of uint64
_Engine: TypeAlias = Literal["16-8-8", "24-8", "rank", "b+tree"]
_Isa: TypeAlias = Literal["scalar", "avx2", "avx512"]
_T = TypeVar("_T")

@final
class RouteTable:
    MISS: Final[int]
    @property
    def family(self) -> int: ...
    @property
    def engine(self) -> _Engine: ...
    @property
    def isa(self) -> _Isa: ...
    @property
    def nbytes(self) -> int: ...
    def __init__(
        self,
        routes: Mapping[Any, SupportsIndex] | None = None,  # of _Prefix
        *,
        family: int = 4,
        engine: str | None = None,
        isa: str | None = None,
    ) -> None: ...
    @classmethod
    def from_arrays(
        cls,
        networks: _Addresses,
        prefix_lens: NDArray[np.uint8],  # (N,)
        hops: NDArray[np.uint32],  # (N,)
        *,
        mask_host_bits: bool = False,
        family: int | None = None,
        engine: str | None = None,
        isa: str | None = None,
    ) -> RouteTable: ...
    @classmethod
    def from_ranges(
        cls,
        first: _Addresses,
        last: _Addresses,
        hops: NDArray[np.uint32],  # (N,)
        *,
        family: int | None = None,
        engine: str | None = None,
        isa: str | None = None,
    ) -> RouteTable: ...
    @classmethod
    def from_text(
        cls,
        source: str | bytes | bytearray | memoryview | NDArray[np.uint8] | Iterable[str | bytes],
        *,
        mask_host_bits: bool = False,
        skip_other_family: bool = False,
        family: int = 4,
        engine: str | None = None,
        isa: str | None = None,
    ) -> RouteTable: ...
    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RouteTable: ...
    @classmethod
    def from_buffer(cls, image: bytes | bytearray | memoryview) -> RouteTable: ...
    def save(self, path: str | os.PathLike[str]) -> None: ...
    def to_bytes(self) -> bytes: ...
    def copy(self) -> RouteTable: ...
    def __len__(self) -> int: ...
    def __contains__(self, prefix: _Prefix, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __getitem__(self, prefix: _Prefix, /) -> int: ...
    def __setitem__(self, prefix: _Prefix, hop: SupportsIndex, /) -> None: ...
    def __delitem__(self, prefix: _Prefix, /) -> None: ...
    @overload
    def get(self, prefix: _Prefix) -> int | None: ...
    @overload
    def get(self, prefix: _Prefix, default: _T) -> int | _T: ...
    def keys(self) -> list[str]: ...
    def values(self) -> list[int]: ...
    def items(self) -> list[tuple[str, int]]: ...
    def update_many(
        self,
        networks: _Addresses,
        prefix_lens: NDArray[np.uint8],  # (N,)
        hops: NDArray[np.uint32],  # (N,)
        *,
        mask_host_bits: bool = False,
    ) -> None: ...
    def remove_many(
        self,
        networks: _Addresses,
        prefix_lens: NDArray[np.uint8],  # (N,)
        *,
        mask_host_bits: bool = False,
    ) -> None: ...
    def lookup(
        self,
        addresses: _Addresses,
        out: NDArray[np.uint32] | None = None,  # (N,)
    ) -> NDArray[np.uint32]: ...  # (N,)
    def lookup_text(
        self,
        texts: NDArray[Any] | Iterable[str | bytes | None],
        out: NDArray[np.uint32] | None = None,  # (N,)
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]: ...  # (N,) each
    def lookup_all(
        self,
        addresses: _Addresses,
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32]]: ...  # (N + 1,), (M,)
    def longest_match(self, address: _Address) -> tuple[str, int] | None: ...
    def covering(self, prefix: _Prefix) -> list[tuple[str, int]]: ...
    def covered(self, prefix: _Prefix) -> list[tuple[str, int]]: ...
    def to_arrays(
        self,
    ) -> tuple[_Addresses, NDArray[np.uint8], NDArray[np.uint32]]: ...  # (N, ...), (N,), (N,)
