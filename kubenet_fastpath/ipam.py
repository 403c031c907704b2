"""Addresses of pods, handed out as the CNI plugin host-local does."""

from .address import ipv4, ipv4_text
from .errors import ConfigError, TableFull


class HostLocal:
    """The addresses of one node's pod CIDR, in turn; a freed one is used again as late as possible.

    Parameters
    ----------
    network, prefix_len : int
        The range; its first and last address and the gateway are never handed out.
    gateway : int
        The bridge's address.

    Notes
    -----
    containernetworking/plugins, plugins/ipam/host-local/backend/allocator: the search begins behind the latest
    address and wraps.
    """

    def __init__(self, network: int, prefix_len: int, gateway: int) -> None:
        self.first = network + 1
        self.last = network + (1 << 32 - prefix_len) - 2
        self.gateway = gateway
        self._used: set[int] = set()
        self._latest = self.last

    def __contains__(self, address: int) -> bool:
        return address in self._used

    def __len__(self) -> int:
        return len(self._used)

    def allocate(self) -> int:
        """Take the next free address; TableFull when there is none."""
        size = self.last - self.first + 1
        for step in range(1, size + 1):
            address = self.first + (self._latest - self.first + step) % size
            if address != self.gateway and address not in self._used:
                self._used.add(address)
                self._latest = address
                return address
        raise TableFull(f"no IP addresses available in range {ipv4_text(self.first)}-{ipv4_text(self.last)}")

    def reserve(self, address: int | str) -> int:
        """Take a certain address; ConfigError when it is not to be had."""
        number = ipv4(address)
        text = ipv4_text(number)
        if not self.first <= number <= self.last:
            raise ConfigError(
                f"pod address {text} is outside {ipv4_text(self.first)}-{ipv4_text(self.last)}, the range of this node"
            )
        if number == self.gateway:
            raise ConfigError(f"pod address {text} is the bridge's own")
        if number in self._used:
            raise ConfigError(f"pod address {text} is taken")
        self._used.add(number)
        return number

    def release(self, address: int) -> None:
        """Give an address back."""
        self._used.discard(address)
