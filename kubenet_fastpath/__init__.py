"""A Linux node's datapath in user space, over numpy batches of real frames."""

from .batch import PacketBatch
from .config import Hairpin, Kubenet, Masquerade, Neighbour, Pod, Route
from .conntrack import ConnectionTable
from .errors import AddressError, CaptureError, ConfigError, FastpathError, TableFull
from .fdb import ForwardingDatabase
from .fib import RouteTable
from .node import Node, Port, Result
from .timeouts import Timeouts
from .verdict import Reason, Verdict

__all__ = [
    "AddressError",
    "CaptureError",
    "ConfigError",
    "ConnectionTable",
    "FastpathError",
    "ForwardingDatabase",
    "Hairpin",
    "Kubenet",
    "Masquerade",
    "Neighbour",
    "Node",
    "PacketBatch",
    "Pod",
    "Port",
    "Reason",
    "Result",
    "RouteTable",
    "Route",
    "TableFull",
    "Timeouts",
    "Verdict",
]
