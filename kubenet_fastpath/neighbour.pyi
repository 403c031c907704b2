from typing import Any, Final, final

from numpy.typing import NDArray

from .address_pool import AddressPool

STATES: Final[dict[int, str]]

@final
class NeighbourTable:
    def __init__(
        self,
        seed: int = 0,
        limit: int = 1024,
        pool: AddressPool | None = None,
        *,
        retrans_s: float = 1,
        delay_s: float = 5,
        reachable_s: float = 30,
    ) -> None: ...
    def __len__(self) -> int: ...
    def number(self, address: str | int) -> int: ...
    def add(self, dev: int, address: str | int, mac: str | int) -> None: ...
    def remove(self, dev: int, address: str | int) -> None: ...
    def flush(self, dev: int) -> None: ...
    @property
    def held(self) -> int: ...
    def to_records(self) -> NDArray[Any]: ...  # (N,) dev, ip, mac, state, updated
    def to_text(self, names: dict[int, str] | None = None) -> str: ...
