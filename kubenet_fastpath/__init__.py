"""A Linux node's datapath in user space, over numpy batches of real frames."""

from .azure_cni import AzureCniNodeSubnet, AzureCniOverlay, AzureCniPodSubnet
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
from .service import Endpoint, HostPort, PortMapper, Service, ServicePort, TrafficPolicy
from .timeouts import Timeouts
from .verdict import Reason, Verdict

__all__ = [
    "AddressError",
    "AzureCniNodeSubnet",
    "AzureCniOverlay",
    "AzureCniPodSubnet",
    "CaptureError",
    "CaptureWarning",
    "ConfigError",
    "ConnectionTable",
    "Endpoint",
    "FastpathError",
    "ForwardingDatabase",
    "Hairpin",
    "HostPort",
    "Kubenet",
    "Masquerade",
    "Neighbour",
    "Node",
    "PacketBatch",
    "Pod",
    "Port",
    "PortMapper",
    "Reason",
    "Result",
    "Route",
    "RouteTable",
    "Service",
    "ServicePort",
    "TableFileError",
    "TableFull",
    "Timeouts",
    "TrafficPolicy",
    "Verdict",
    "iter_pcap",
    "read_pcap",
    "write_pcap",
]
