from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from .scan import Packets

MAGIC: Final[dict[bytes, tuple[bool, bool, int]]]

@final
class PcapScanner:
    @property
    def link_type(self) -> int: ...
    @property
    def nanoseconds(self) -> bool: ...
    def __init__(self, header: bytes) -> None: ...
    def scan(
        self,
        data: NDArray[np.uint8],  # (B,)
        start: int = 0,
        most: int = ...,
    ) -> tuple[Packets, int, str | None]: ...

def pcap_records(
    data: NDArray[np.uint8],  # (B,)
    offset: NDArray[np.int64],  # (N,)
    length: NDArray[np.uint32],  # (N,)
    wire_length: NDArray[np.uint32],  # (N,)
    time: NDArray[np.int64],  # (N,)
    nanoseconds: bool,
) -> NDArray[np.uint8]: ...  # (16 * N + sum(length),)
