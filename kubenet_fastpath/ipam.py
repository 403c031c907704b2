"""Addresses of pods, handed out as the CNI plugin host-local does."""

from .address import ipv4, ipv4_text, ipv6, ipv6_text
from .errors import ConfigError, TableFull


class HostLocal:
    """The addresses of one node's pod CIDR, in turn; a freed one is used again as late as possible.

    Parameters
    ----------
    network, prefix_len : int
        The range; its first address, of IPv4 the last one, and the gateway are never handed out.
    gateway : int
        The bridge's address.
    family : int
        4 or 6.

    Notes
    -----
    containernetworking/plugins, plugins/ipam/host-local/backend/allocator: the search begins behind the latest
    address and wraps.
    """

    def __init__(self, network: int, prefix_len: int, gateway: int, family: int = 4) -> None:
        self.first = network + 1
        self.last = (
            network + (1 << 32 - prefix_len) - 2 if family == 4 else network + (1 << 128 - prefix_len) - 1
        )
        self._number, self._text = (ipv4, ipv4_text) if family == 4 else (ipv6, ipv6_text)
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
        raise TableFull(
            f"no IP addresses available in range {self._text(self.first)}-{self._text(self.last)}"
        )

    def reserve(self, address: int | str) -> int:
        """Take a certain address; ConfigError when it is not to be had."""
        number = self._number(address)
        text = self._text(number)
        if not self.first <= number <= self.last:
            inside = f"{self._text(self.first)}-{self._text(self.last)}"
            raise ConfigError(f"pod address {text} is outside {inside}, the range of this node")
        if number == self.gateway:
            raise ConfigError(f"pod address {text} is the bridge's own")
        if number in self._used:
            raise ConfigError(f"pod address {text} is taken")
        self._used.add(number)
        return number

    def release(self, address: int) -> None:
        """Give an address back."""
        self._used.discard(address)
