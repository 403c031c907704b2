"""How long a cluster takes to build, and how much memory: a thousand nodes of 30 pods in every addressing mode.

    python -m bench.cluster [--nodes N ...] [--pods N] [--json]

Each cluster is built in a process of its own, which then carries one frame from the first pod to the last; memory is
the most that the process had resident, all of it included. kubenet has 400 nodes at the most, AKS's limit; a thousand
nodes with bridges are in three clusters of one process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import kubenet_fastpath as kf
from kubenet_fastpath.aks_limit import MAX_KUBENET_NODES
from kubenet_fastpath.topology import Addressing, PodSite, Topology
from kubenet_fastpath.traffic import Flow, question


def topology(nodes: int, pods: int) -> Topology:
    """A VNet that has room for all of them in every mode."""
    names = [f"node{i}" for i in range(nodes)]
    return Topology(
        nodes=tuple((name, f"10.0.{i // 250}.{i % 250 + 4}") for i, name in enumerate(names)),
        node_subnet="10.0.0.0/14",
        pod_subnet="10.64.0.0/14",
        pod_cidr="10.128.0.0/9",
        address_space=("10.0.0.0/10", "10.64.0.0/14"),
        pods=tuple(PodSite(name=f"{name}-{k}", node=name) for name in names for k in range(pods)),
        outbound_ports=8,
        max_pods=max(pods, 30),
    )


def build(mode: Addressing, nodes: int, pods: int) -> dict[str, float]:
    """Seconds to build, resident bytes at the most, and whether a frame crosses."""
    most = MAX_KUBENET_NODES if mode is Addressing.KUBENET else nodes
    parts = [topology(min(most, nodes - at), pods) for at in range(0, nodes, most)]
    began = time.perf_counter()
    clusters = [kf.Cluster.from_topology(part, mode) for part in parts]
    seconds = time.perf_counter() - began
    for cluster, part in zip(clusters, parts, strict=True):
        flow = Flow(label="", src=part.pods[0].name, dst=part.pods[-1].name, port=80)
        frame = kf.PacketBatch.from_frames([question(flow, cluster, 40_000)], time=1)
        assert cluster.send(frame, flow.src).outcome.tolist() == [kf.Outcome.DELIVERED]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "bytes": peak, "pods": sum(len(part.pods) for part in parts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000])
    parser.add_argument("--pods", type=int, default=30, help="of each node")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=[mode.value for mode in Addressing], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(build(Addressing(given.one), given.nodes[0], given.pods)))
        return
    found: dict[str, dict[str, dict[str, float]]] = {}
    for nodes in given.nodes:
        for mode in Addressing:
            words = ["--one", mode.value, "--nodes", str(nodes), "--pods", str(given.pods)]
            command = [sys.executable, "-m", "bench.cluster", *words]
            said = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            found.setdefault(str(nodes), {})[mode.value] = json.loads(said.stdout)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'nodes':>7}{'pods':>9}  {'addressing':<13}{'s':>7}{'MB':>8}{'us a pod':>10}")
    for nodes_text, modes in found.items():
        for name, row in modes.items():
            each = 1e6 * row["seconds"] / row["pods"]
            print(
                f"{int(nodes_text):>7,}{row['pods']:>9,.0f}  {name:<13}{row['seconds']:>7.2f}"
                f"{row['bytes'] / 1e6:>8,.0f}{each:>10.0f}"
            )


if __name__ == "__main__":
    main()
