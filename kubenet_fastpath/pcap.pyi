from typing import Any, final

import numpy as np
from numpy.typing import NDArray

@final
class PcapScanner:
    @property
    def link_type(self) -> int: ...
    @property
    def nanoseconds(self) -> bool: ...
    @property
    def snaplen(self) -> int: ...
    def __init__(self, header: bytes) -> None: ...
    def scan(
        self,
        data: NDArray[np.uint8],  # (B,)
        start: int = 0,
        most: int = ...,
    ) -> tuple[NDArray[Any], int, str | None]: ...
