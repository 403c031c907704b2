"""A Linux node's datapath in user space, over numpy batches of real frames."""

from .batch import PacketBatch
from .capture import iter_pcap, read_pcap, write_pcap
from .config import Hairpin, Kubenet, Masquerade, Neighbour, Pod, Route
from .conntrack import ConnectionTable
from .errors import (
    AddressError,
    CaptureError,
    CaptureWarning,
    ConfigError,
    FastpathError,
    TableFileError,
    TableFull,
)
from .fdb import ForwardingDatabase
from .fib import RouteTable
from .node import Node
from .result import Port, Result
from .timeouts import Timeouts
from .verdict import Reason, Verdict

__all__ = [
    "AddressError",
    "CaptureError",
    "CaptureWarning",
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
    "Route",
    "RouteTable",
    "TableFileError",
    "TableFull",
    "Timeouts",
    "Verdict",
    "iter_pcap",
    "read_pcap",
    "write_pcap",
]
