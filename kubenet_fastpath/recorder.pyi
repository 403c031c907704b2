from typing import Final

import numpy as np

NOTE: Final[np.dtype[np.void]]
