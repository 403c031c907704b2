"""A Linux node's datapath in user space, over numpy batches of real frames."""

from .verdict import Reason, Verdict

__all__ = ["Reason", "Verdict"]
