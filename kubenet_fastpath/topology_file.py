"""Clusters read from what people have: `kubectl get -o json`, `az ... show`, or a short file of our own.

    kubectl get nodes,pods,services,endpointslices,configmaps -A -o json > cluster.json
    az aks show ... > aks.json; az network vnet show ... > vnet.json; az network route-table show ... > routes.json

Files may hold lists, single objects, or several documents, as JSON or YAML. Our own has the fields of `Topology`, with
pods as NAME: NODE:

    nodes: {node0: 10.224.0.4, node1: 10.224.0.5}
    pods: {web: node0, db: node1}
    services: {default/db: {ip: 10.0.0.30, port: 5432, endpoints: ["db:5432"]}}

Longer than its neighbours: what is written, `topology_json`, stands beside what reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .cluster_dump import dumped_topology
from .dump import Dump
from .errors import ConfigError, FastpathError
from .service import HostPort, TrafficPolicy, check_port
from .topology import Addressing, PodSite, ServiceSite, Topology, sample_topology
from .vnet import HopKind, UserRoute, VnetHost

__all__ = ["TopologyFile", "open_topology", "read_topology", "topology_json"]

PLAIN = ("node_subnet", "pod_cidr", "pod_subnet", "address_space", "peers", "frontends", "outbound_ports",
         "idle_timeout_s", "max_pods", "node_prefix_len", "non_masquerade", "dual_stack")  # fmt: skip
FIELDS = {*PLAIN, "nodes", "pods", "services", "hosts", "addressing", "routes", "pod_cidrs", "conntrack_max"}


@dataclass(frozen=True)
class TopologyFile:
    """What files said.

    Attributes
    ----------
    topology : Topology
    skipped : dict of str to int
        What was not understood, or is not of the datapath, by kind.
    notes : tuple of str
        What was missing and has been assumed.
    """

    topology: Topology
    skipped: dict[str, int]
    notes: tuple[str, ...]


def read_topology(paths: Iterable[str | os.PathLike[str]]) -> TopologyFile:
    """Read a cluster from any number of files, in any order.

    Parameters
    ----------
    paths : iterable of path
        JSON of kubectl or az, told by what is in it, or one file of our own.

    Raises
    ------
    OSError
        For a file that cannot be read.
    AddressError, ConfigError
        For one that is no JSON or YAML, or says nothing of a cluster, or contradicts itself.
    """
    found, own = Dump(), dict[str, Any]()
    names = [os.fspath(path) for path in paths]
    said = ", ".join(names)
    try:
        for name in names:
            for document in _load(Path(name)):
                own |= _sort(document, found, name)
        topology = _own(own, said) if own else dumped_topology(found, said)
        _check_types(topology, said)
        return TopologyFile(topology, dict(found.skipped), tuple(found.notes))
    except FastpathError as error:
        # what a name in the file has of line ends and control characters must not reach a terminal
        said = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
        raise type(error)(said) from None
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ConfigError(f"{said}: not as kubectl, az or a topology has it ({error!r})") from None


def open_topology(paths: Sequence[str | os.PathLike[str]]) -> tuple[Topology, list[tuple[str, str]]]:
    """What files say of a cluster, or the built-in one if there are none; and what to tell of it, as label and text."""
    notes: list[tuple[str, str]] = []
    if not paths:
        topology, said = sample_topology(), "the built-in one"
    else:
        read = read_topology(paths)
        topology, said = read.topology, ", ".join(os.fspath(path) for path in paths)
        notes = [("note", note) for note in read.notes]
        if read.skipped:
            skipped = ", ".join(f"{count:,} {kind}" for kind, count in sorted(read.skipped.items()))
            notes.append(("skipped", skipped))
    sizes = f"{len(topology.nodes):,} nodes, {len(topology.pods):,} pods, {len(topology.services):,} service ports"
    return topology, [("cluster", f"{said}: {sizes}"), *notes]


def _load(path: Path) -> list[Any]:
    """The documents of a file: YAML between lines of ---, or JSON one after another."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text in UTF-8: octet {error.start}") from None
    if path.suffix in (".yaml", ".yml"):
        try:
            import yaml  # type: ignore[import-untyped]
        except ImportError:
            raise ConfigError(
                f"{path} is YAML, which needs PyYAML: pip install pyyaml, or write it as JSON"
            ) from None
        try:
            return [document for document in yaml.safe_load_all(text) if document is not None]
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    found: list[Any] = []
    decoder, at = json.JSONDecoder(), len(text) - len(text.lstrip())
    try:
        while at < len(text) or not found:
            document, end = decoder.raw_decode(text, at)
            found.append(document)
            at = end + len(text[end:]) - len(text[end:].lstrip())
    except ValueError as error:
        raise ConfigError(
            f"{path} is no JSON: {error}; a cluster is JSON, or YAML in a file whose name ends in .yaml"
        ) from None
    return found


def _sort(data: Any, found: Dump, name: str) -> dict[str, Any]:
    """Put one document where it belongs, by what it looks like; returns what is in the form of our own."""
    own: dict[str, Any] = {}
    if isinstance(data, list):
        for part in data:
            own |= _sort(part, found, name)
        return own
    if not isinstance(data, dict):
        raise ConfigError(f"{name} holds {type(data).__name__}, not the objects of kubectl or az")
    kind = data.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(data.get("items"), list):
        for part in data["items"]:
            own |= _sort({"kind": kind.removesuffix("List")} | part, found, name)
    elif isinstance(kind, str) and kind:
        if kind in found.objects:
            found.objects[kind].append(data)
        else:
            found.skipped[kind] += 1
    elif "networkProfile" in data:
        found.aks = data
    elif "addressSpace" in data:
        found.vnet = data
    elif "routes" in data and "nodes" not in data:
        found.routes += data["routes"]
    elif "nodes" in data:
        unknown = set(data) - FIELDS
        if unknown:
            raise ConfigError(
                f"{name} has {', '.join(sorted(unknown))}; a topology has {', '.join(sorted(FIELDS))}"
            )
        own = data
    else:
        raise ConfigError(
            f"{name} is nothing of kubectl, az or a topology: it has {', '.join(sorted(data)) or 'nothing'}"
        )
    return own


def _own(data: dict[str, Any], name: str) -> Topology:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in data.items()
        if key in (*PLAIN, "pod_cidrs", "conntrack_max")
    }
    if "addressing" in data:
        try:
            fields["addressing"] = Addressing(data["addressing"])
        except ValueError:
            modes = ", ".join(mode.value for mode in Addressing)
            raise ConfigError(f"{name}: addressing {data['addressing']!r} is none of {modes}") from None
    services = []
    for service, rows in data.get("services", {}).items():
        for row in rows if isinstance(rows, list) else [rows]:
            services.append(
                ServiceSite(
                    name=service,
                    cluster_ip=row["ip"],
                    port=row["port"],
                    endpoints=tuple(_endpoint(text) for text in row.get("endpoints", ())),
                    protocol=row.get("protocol", "tcp"),
                    node_port=row.get("node_port"),
                    terminating=tuple(_endpoint(text) for text in row.get("terminating", ())),
                    external_ips=tuple(row.get("external_ips", ())),
                    load_balancer_ips=tuple(row.get("load_balancer_ips", ())),
                    source_ranges=tuple(row.get("source_ranges", ())),
                    external_traffic_policy=TrafficPolicy(row.get("external_traffic_policy", "Cluster")),
                    internal_traffic_policy=TrafficPolicy(row.get("internal_traffic_policy", "Cluster")),
                    affinity_s=row.get("affinity_s"),
                )
            )
    return Topology(
        nodes=tuple(data["nodes"].items()),
        pods=tuple(_pod(pod, said) for pod, said in data.get("pods", {}).items()),
        services=tuple(services),
        hosts=tuple(VnetHost(name=host, ip=ip) for host, ip in data.get("hosts", {}).items()),
        routes=tuple(
            UserRoute(prefix=row["prefix"], hop=HopKind(row["hop"]), address=row.get("address"))
            for row in data.get("routes", ())
        ),
        **fields,
    )


def _pod(name: str, said: Any) -> PodSite:
    """NAME: NODE, or NAME: {node, ip, host_ports: [{port, pod_port, protocol, host_ip}]}."""
    if isinstance(said, str):
        return PodSite(name=name, node=said)
    unknown = set(said) - {"node", "ip", "host_ports"}
    if unknown:
        raise ConfigError(f"pod {name} has {', '.join(sorted(unknown))}; a pod has node, ip, host_ports")
    ports = tuple(HostPort(**row) for row in said.get("host_ports", ()))
    return PodSite(name=name, node=said["node"], ip=said.get("ip"), host_ports=ports)


def _endpoint(text: str) -> tuple[str, int]:
    pod, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise ConfigError(f"endpoint {text!r} is no pod:port")
    return pod, int(port)


def _check_types(topology: Topology, said: str) -> None:
    """Refuse a number for a name and the like, which a file may say and a `Topology` takes for granted."""
    services = topology.services
    texts: list[object] = [
        topology.node_subnet,
        topology.pod_cidr,
        topology.pod_subnet,
        *topology.address_space,
    ]
    texts += [*topology.peers, *topology.frontends, *(topology.non_masquerade or ()), *topology.pod_cidrs]
    texts += [part for node in topology.nodes for part in node]
    texts += [part for pod in topology.pods for part in (pod.name, pod.node, pod.ip or "")]
    texts += [part for host in topology.hosts for part in (host.name, host.ip)]
    texts += [part for route in topology.routes for part in (route.prefix, route.address or "")]
    texts += [part for service in services for part in (service.name, service.cluster_ip, service.protocol)]
    texts += [ip for service in services for ip in (*service.outside, *service.source_ranges)]
    numbers: list[object] = [topology.max_pods, topology.outbound_ports, topology.node_prefix_len]
    numbers += topology.conntrack_max
    if not isinstance(topology.idle_timeout_s, int | float) or isinstance(topology.idle_timeout_s, bool):
        raise ConfigError(f"{said}: idle_timeout_s {topology.idle_timeout_s!r} is no number of seconds")
    if not isinstance(topology.dual_stack, bool):
        raise ConfigError(f"{said}: dual_stack {topology.dual_stack!r} is neither true nor false")
    numbers += [*(service.port for service in services)]
    numbers += [port for service in services for _, port in (*service.endpoints, *service.terminating)]
    optional = [value for service in services for value in (service.node_port, service.affinity_s)]
    numbers += [value for value in optional if value is not None]
    for kind, name, values in ((str, "a text", texts), (int, "a number", numbers)):
        for value in values:
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ConfigError(f"{said}: {value!r} is where {name} belongs")
    for service in services:
        for pod, port in (*service.endpoints, *service.terminating):
            check_port(f"{said}: {service.name}: port of endpoint {pod}", port)
        check_port(f"{said}: {service.name}: port", service.port)
        if service.node_port is not None:
            check_port(f"{said}: {service.name}: node_port", service.node_port)


def topology_json(topology: Topology) -> dict[str, Any]:
    """A topology in the form of our own files; what `read_topology` takes back."""
    services: dict[str, list[dict[str, Any]]] = {}
    for site in topology.services:
        row = {
            "ip": site.cluster_ip,
            "port": site.port,
            "protocol": site.protocol,
            "endpoints": [f"{pod}:{port}" for pod, port in site.endpoints],
            "terminating": [f"{pod}:{port}" for pod, port in site.terminating],
            "node_port": site.node_port,
            "external_ips": list(site.external_ips),
            "load_balancer_ips": list(site.load_balancer_ips),
            "source_ranges": list(site.source_ranges),
            "external_traffic_policy": site.external_traffic_policy.value,
            "internal_traffic_policy": site.internal_traffic_policy.value,
            "affinity_s": site.affinity_s,
        }
        services.setdefault(site.name, []).append(row)
    found: dict[str, Any] = {
        "nodes": dict(topology.nodes),
        "pods": {pod.name: _pod_json(pod) for pod in topology.pods},
        "services": services,
        "hosts": {host.name: host.ip for host in topology.hosts},
        "routes": [
            {"prefix": route.prefix, "hop": route.hop.value, "address": route.address}
            for route in topology.routes
        ],
        **{
            name: list(value) if isinstance(value, tuple) else value
            for name in (*PLAIN, "pod_cidrs", "conntrack_max")
            if (value := getattr(topology, name)) is not None
        },
    }
    if topology.addressing is not None:
        found["addressing"] = topology.addressing.value
    return found


def _pod_json(pod: PodSite) -> str | dict[str, Any]:
    if pod.ip is None and not pod.host_ports:
        return pod.node
    said: dict[str, Any] = {"node": pod.node}
    if pod.ip is not None:
        said["ip"] = pod.ip
    if pod.host_ports:
        said["host_ports"] = [asdict(row) for row in pod.host_ports]
    return said
