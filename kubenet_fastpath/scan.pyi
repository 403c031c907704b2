from typing import Final

import numpy as np

RECORD: Final[np.dtype[np.void]]
