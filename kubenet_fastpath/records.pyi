from typing import Any, Final

import numpy as np

EVENT: Final[np.dtype[np.void]]
RECORD: Final[np.dtype[Any]]  # a connection, as `ConnectionTable.to_records` gives it
