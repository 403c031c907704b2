"""A Linux node's datapath in user space, over numpy batches of real frames."""

try:
    from . import parse as _parse  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        "kubenet_fastpath is not compiled here: start Python outside the folder of the sources, "
        "or compile them in place with python setup.py build_ext --inplace"
    ) from error
from .azure_cni import AzureCniNodeSubnet, AzureCniOverlay, AzureCniPodSubnet
from .batch import PacketBatch
from .capture import iter_pcap, read_pcap, write_pcap
from .carriage import Carriage
from .cluster import Cluster
from .config import Hairpin, Kubenet, Masquerade, Neighbour, Pod, Route
from .conntrack import ConnectionTable
from .delivery import Delivery, Outcome, Place, PlaceKind
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
from .load_balancer import LoadBalancer, LoadBalancerRule
from .node import Node
from .result import Port, Result
from .service import Endpoint, HostPort, PortMapper, Service, ServicePort, TrafficPolicy
from .timeouts import Timeouts
from .verdict import Reason, Verdict
from .vnet import HopKind, UserRoute, Vnet, VnetHost

__all__ = [
    "AddressError",
    "AzureCniNodeSubnet",
    "AzureCniOverlay",
    "AzureCniPodSubnet",
    "CaptureError",
    "CaptureWarning",
    "Carriage",
    "Cluster",
    "ConfigError",
    "ConnectionTable",
    "Delivery",
    "Endpoint",
    "FastpathError",
    "ForwardingDatabase",
    "Hairpin",
    "HopKind",
    "HostPort",
    "Kubenet",
    "LoadBalancer",
    "LoadBalancerRule",
    "Masquerade",
    "Neighbour",
    "Node",
    "Outcome",
    "PacketBatch",
    "Place",
    "PlaceKind",
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
    "UserRoute",
    "Verdict",
    "Vnet",
    "VnetHost",
    "iter_pcap",
    "read_pcap",
    "write_pcap",
]
