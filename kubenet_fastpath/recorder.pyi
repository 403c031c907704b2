from typing import Final

import numpy as np

NOTE: Final[np.dtype[np.void]]

def stopwatch_cost(tries: int = 1000) -> int: ...
