from typing import Any, Final

import numpy as np

ADDRESSES: Final[tuple[str, ...]]
EVENT: Final[np.dtype[np.void]]
EVENT6: Final[np.dtype[np.void]]  # with addresses of 16 octets
PORTS: Final[np.dtype[np.void]]
PORTS6: Final[np.dtype[np.void]]  # with addresses of 16 octets
RECORD: Final[np.dtype[Any]]  # a connection, as `ConnectionTable.to_records` gives it
RECORD6: Final[np.dtype[Any]]  # with addresses of 16 octets

def census_name(place: int) -> str: ...
