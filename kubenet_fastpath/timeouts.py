"""How long a connection lives without a packet: the `nf_conntrack_*_timeout*` settings of Linux."""

from dataclasses import dataclass, fields

from .errors import ConfigError

__all__ = ["Timeouts"]

_LONGEST = 2**31 - 1  # s, what the kernel's sysctl takes


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds until a connection in each state is forgotten; the defaults are the kernel's.

    kube-proxy wants 86400 for `tcp_established_s` and 3600 for `tcp_close_wait_s`; some of its versions
    only raise what they find. A timeout of 0 forgets at once.

    Raises
    ------
    ConfigError
        A timeout is negative, above 2**31 - 1 or not a number.

    Examples
    --------
    >>> Timeouts(tcp_established_s=86_400).tcp_established_s
    86400
    """

    generic_s: float = 600  #: protocols without a tracker of their own
    icmp_s: float = 30
    udp_s: float = 30  #: unanswered, or younger than 2 s
    udp_stream_s: float = 120
    udplite_s: float = 30
    udplite_stream_s: float = 120
    gre_s: float = 30
    gre_stream_s: float = 180
    tcp_syn_sent_s: float = 120
    tcp_syn_recv_s: float = 60
    tcp_established_s: float = 432_000
    tcp_fin_wait_s: float = 120
    tcp_close_wait_s: float = 60
    tcp_last_ack_s: float = 30
    tcp_time_wait_s: float = 120
    tcp_close_s: float = 10
    tcp_syn_sent2_s: float = 120  #: both ends sent a SYN; the kernel has no sysctl for it
    tcp_max_retrans_s: float = 300  #: the most, once an ACK was repeated `max_retrans` times
    tcp_unacknowledged_s: float = 300  #: the most, while data is not acknowledged
    sctp_closed_s: float = 10
    sctp_cookie_wait_s: float = 3
    sctp_cookie_echoed_s: float = 3
    sctp_established_s: float = 210
    sctp_shutdown_sent_s: float = 3
    sctp_shutdown_recd_s: float = 3
    sctp_shutdown_ack_sent_s: float = 3
    sctp_heartbeat_sent_s: float = 30

    def __post_init__(self) -> None:
        for field in fields(self):
            seconds = getattr(self, field.name)
            if not isinstance(seconds, (int, float)) or not 0 <= seconds <= _LONGEST:
                raise ConfigError(f"{field.name} must be 0..{_LONGEST} seconds: {seconds!r}")

    def nanoseconds(self) -> tuple[int, ...]:
        """Return all timeouts in ns, in the order of the fields."""
        return tuple(round(getattr(self, field.name) * 10**9) for field in fields(self))
