from typing import final

import numpy as np
from numpy.typing import NDArray

from .scan import Packets

@final
class PcapngScanner:
    def __init__(self) -> None: ...
    def scan(
        self,
        data: NDArray[np.uint8],  # (B,)
        start: int = 0,
        most: int = ...,
    ) -> tuple[Packets, int, str | None]: ...
