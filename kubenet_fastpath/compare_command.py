"""`kubenet-fastpath compare`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .argument_type import prefix
from .captured_flows import captured_flows
from .comparison import MAX_ROUNDS, compare, to_json
from .comparison_page import comparison_page
from .comparison_report import comparison_tables
from .errors import ConfigError
from .progress import ProgressLine
from .redaction import redacted
from .report import labelled, show
from .topology_file import open_topology, topology_json

__all__ = ["add_compare"]


def run_compare(args: argparse.Namespace) -> int:
    """Compare, and write what was asked for."""
    if not 0 <= args.rounds <= MAX_ROUNDS:
        raise ConfigError(f"--rounds {args.rounds} is not in 0..{MAX_ROUNDS}")
    for option, path in (("--html", args.html), ("--redact", args.redact)):
        if path is not None and path.is_dir():
            raise ConfigError(f"{path} is a folder: name a file with {option}")
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"{option} {path}: there is no folder {path.parent}")
    if args.pod_cidr is not None and args.traffic is None:
        raise ConfigError("--pod-cidr is of a capture: name one with --traffic, or leave it out")
    flows = None
    if args.traffic is not None:
        if args.files or args.redact is not None:
            raise ConfigError(
                "--traffic makes its cluster of the capture's hosts: leave files and --redact out"
            )
        captured = captured_flows(args.traffic, pod_cidr=args.pod_cidr)
        topology, flows = captured.topology, captured.flows
        said = [("capture", str(args.traffic)), *(("note", note) for note in captured.notes)]
    else:
        topology, said = open_topology(args.files)
    if args.redact is not None:
        topology = redacted(topology)
        args.redact.write_text(json.dumps(topology_json(topology), indent=2) + "\n", encoding="utf-8")
    with ProgressLine(sys.stderr, unit="") as progress:
        comparison = compare(topology, flows, rounds=args.rounds, seed=args.seed, progress=progress)
    said.append(("traffic", f"{len(comparison.flows)} flows{'' if flows else ', one of each class'}"))
    if args.html is not None:
        args.html.write_text(comparison_page(comparison, said), encoding="utf-8")
    if args.json:
        about = [{"what": what, "text": text} for what, text in said]
        print(json.dumps({"about": about} | to_json(comparison), indent=2))
        return 0
    parts = [labelled(said), *comparison_tables(comparison)]
    written = ", ".join(str(path) for path in (args.html, args.redact) if path is not None)
    if written:
        parts.append(labelled([("written", written)]))
    show(parts, sys.stdout)
    return 0


def add_compare(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="carry the same traffic through kubenet and Azure CNI and say what changes and what it costs",
        description="The same flows through a cluster with kubenet, and with Azure CNI's node subnet, pod subnet and "
        "overlay: which source the receiver sees, what is translated where, the way, TTL, cost and what is taken up.",
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="kubectl get nodes,pods,services,endpointslices,configmaps -A -o json; az aks show, az network vnet show, "
        "az network route-table show; or a short file of your own, YAML or JSON (default: a built-in cluster)",
    )
    parser.add_argument(
        "--redact",
        type=Path,
        metavar="FILE",
        help="write the cluster there with other names and addresses, and use that",
    )
    parser.add_argument(
        "--traffic",
        type=Path,
        metavar="IN.pcap",
        help="flows of a capture, between its hosts: pods and outside",
    )
    parser.add_argument(
        "--pod-cidr", type=prefix, metavar="CIDR", help="of a capture: whose hosts are the pods"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="measurements of each class (0: none)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the mix of connections")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained page, too")
    parser.set_defaults(run=run_compare)
