from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Final, SupportsIndex, TypeAlias, TypeVar, final, overload

import numpy as np
from numpy.typing import NDArray

_Prefix: TypeAlias = str | tuple[SupportsIndex, SupportsIndex] | IPv4Network
_T = TypeVar("_T")

@final
class RouteTable:
    MISS: Final[int]
    @property
    def engine(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    def __init__(self, routes: Mapping[_Prefix, SupportsIndex] | None = None) -> None: ...
    @classmethod
    def from_arrays(
        cls,
        networks: NDArray[np.uint32],  # (N,)
        prefix_lens: NDArray[np.uint8],  # (N,)
        hops: NDArray[np.uint32],  # (N,)
        *,
        mask_host_bits: bool = False,
    ) -> RouteTable: ...
    @classmethod
    def from_text(cls, source: str | Iterable[str], *, mask_host_bits: bool = False) -> RouteTable: ...
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
    def items(self) -> list[tuple[str, int]]: ...
    def update_many(
        self,
        networks: NDArray[np.uint32],  # (N,)
        prefix_lens: NDArray[np.uint8],  # (N,)
        hops: NDArray[np.uint32],  # (N,)
        *,
        mask_host_bits: bool = False,
    ) -> None: ...
    def remove_many(
        self,
        networks: NDArray[np.uint32],  # (N,)
        prefix_lens: NDArray[np.uint8],  # (N,)
        *,
        mask_host_bits: bool = False,
    ) -> None: ...
    def lookup(
        self,
        dst: NDArray[np.uint32],  # (N,)
        out: NDArray[np.uint32] | None = None,  # (N,)
    ) -> NDArray[np.uint32]: ...  # (N,)
    def longest_match(self, address: str | SupportsIndex | IPv4Address) -> tuple[str, int] | None: ...
    def covering(self, prefix: _Prefix) -> list[tuple[str, int]]: ...
    def covered(self, prefix: _Prefix) -> list[tuple[str, int]]: ...
    def to_arrays(
        self,
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint32]]: ...  # (N,) each
