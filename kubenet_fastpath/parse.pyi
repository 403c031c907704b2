from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HEADER: Final[np.dtype[np.void]]

class Status(IntEnum):
    OK = 0
    OTHER = 1
    SHORT_ETHERNET = 2
    SHORT_VLAN = 3
    SHORT_ARP = 4
    SHORT_IP = 5
    BAD_IP = 6
    SHORT_L4 = 7
    BAD_L4 = 8

def parse_headers(
    data: NDArray[np.uint8],  # (B,)
    offset: NDArray[np.int64],  # (N,)
    length: NDArray[np.uint32],  # (N,)
    wire_length: NDArray[np.uint32],  # (N,)
) -> NDArray[Any]: ...  # (N,) HEADER
