"""Where this project's node and the running kernel are known to differ, and why: the one list.

    python tests/kernel/differences.py > tests/kernel/DIFFERENCES.md

`same` in agreement.py lets exactly the drawn values pass; what histories leave out is said here.
"""

from __future__ import annotations

# What the kernel draws at random: no program can say the same. Compared as a constraint.
DRAWN = (
    ("IP id of packets that the node makes", "drawn (`ip_select_ident`, `get_random_u32`); any value passes"),
    (
        "port or echo id of a translation whose own is taken, and all with `--random-fully`",
        "the search begins at a drawn offset (`nf_nat_l4proto_unique_tuple`); histories read it from the kernel's "
        "output and have our node begin there (`Node.reseed`)",
    ),
    (
        "endpoint of a service that has several",
        "drawn by kube-proxy's `statistic` rules; recorded cases accept each, histories read which it was and have our "
        "node draw that",
    ),
    (
        "identification of IPv6 datagrams that the node cuts anew",
        "drawn (`ipv6_select_ident`); any value passes",
    ),
    (
        "IPv6 flow label of packets that the node makes",
        "a keyed hash (`ip6_make_flowlabel`); histories run with `auto_flowlabels` 0, and ours says 0",
    ),
    (
        "proxy ARP's delay",
        "drawn up to 0.8 s (`proxy_delay`); histories run with 0, recorded cases compare without time",
    ),
    (
        "whether an IPv6 datagram with destination options behind its fragment headers keeps its pieces",
        "`ip6_fragment` keeps them where each has room in front for the options (`skb_headroom`), which hangs on the "
        "driver; ours keeps them, and histories send none, for packet sockets leave no room",
    ),
    (
        "whose path MTU makes room for a new one",
        "six to ten stay in each bucket, drawn (`update_or_create_fnhe`, `rt6_insert_exception`), of a table for "
        "each next hop; ours has one table, and eight stay",
    ),
    ("times in answers to ICMP timestamps", "the time of day; a node of ours has its packets' time"),
    ("reachable time of a neighbour", "drawn in 15 to 45 s every five minutes; here its base of 30 s"),
    (
        "moments within a tick of a deadline",
        "the kernel's timers run on jiffies (1 to 10 ms), ours on nanoseconds; a history with timers within "
        "reach is run again if it fails, and how many were is said",
    ),
)

# What the kernel does in a namespace, and not where a node lives.
NAMESPACED = (
    (
        "errors about packets whose route goes while they wait for a MAC",
        "with the last route by a gateway the kernel makes the cached ones `blackhole_netdev`'s (`rt_fibinfo_free`), "
        "which is init_net's: there it says what it has to say (`__icmp_send`), on a node to the sender, in a test to "
        "nobody; the nodes of histories have one more route by each gateway",
    ),
)

# What is not the kernel's way yet.
OURS = (
    (
        "a path MTU whose next hop does not answer by ARP or NDP",
        "while packets wait for it in vain, the kernel gives the path up (`ip6_link_failure`), or takes no notice of "
        "it until it is told anew (`ipv4_link_failure` ends the cached route's time); ours keeps to it; read in the "
        "sources, not seen in histories",
    ),
    (
        "path MTUs of IPv6 when the route changes and its gateway does not",
        "the kernel's exceptions are a route's (`fib6_nh`), ours a next hop's, as both have it of IPv4 (`fib_nh`): "
        "they stay; histories do not change routes of IPv6",
    ),
    (
        "the node's own MLD, DAD and router advertisements",
        "the node says no MLD reports (histories leave the kernel's out), its addresses are there at once, and it "
        "takes nothing from others' advertisements but their MACs, as a router does",
    ),
    (
        "IPv6 anycast addresses of subnets",
        "a solicitation of one is answered at once, where the kernel waits up to `proxy_delay`; histories run with 0",
    ),
    (
        "IPv6 options of CALIPSO, IOAM and mobility; source routes",
        "the first two are skipped like unknown ones; a routing header with segments left is refused, whatever its "
        "type",
    ),
    (
        "what the bridge's REJECT says to a link-local IPv6 address",
        "the kernel asks by a link that a bridge port happens to have (`find_rr_leaf` over their fe80::/64), ours says "
        "nothing; histories have no pod on a bridge speak from one to a service",
    ),
    (
        "IPv6 jumbo payloads, and a payload length of 0 in front of hop-by-hop options",
        "dropped without a word, where the kernel says what is wrong with the option, or takes the frame's length "
        "(`ip6_rcv_core`, `ipv6_hop_jumbo`)",
    ),
    (
        "redirects to a host that eth0 or cbr0 reaches on its link by a route of its own, outside the interface's "
        "subnets, while its best route leads elsewhere",
        "the kernel looks for a route by that interface alone (`__fib_validate_source`); ours asks its subnets",
    ),
)


def page() -> str:
    def table(rows: tuple[tuple[str, str], ...]) -> str:
        return "\n".join(
            [
                "| what | why, and what the tests make of it |",
                "| --- | --- |",
                *(f"| {a} | {b} |" for a, b in rows),
            ]
        )

    return f"""# Known differences from the running kernel

Made by `differences.py`. All 166 recorded cases pass; whatever else the histories of `test_soak.py` and
`test_dual_stack.py` show is a bug.

## What the kernel draws

{table(DRAWN)}

## What hangs on the namespaces of the tests

{table(NAMESPACED)}

## What is not built

{table(OURS)}
"""


if __name__ == "__main__":
    print(page(), end="")
