"""What the VNet did with a frame: how it carried it, or why not."""

from enum import IntEnum

__all__ = ["Carriage"]


class Carriage(IntEnum):
    """One for each frame that enters the fabric; numbers are apart from those of `verdict.Reason`, and never reused."""

    VNET = 128  #: by the system route of the VNet, to the NIC that owns the address
    USER_ROUTE = 129  #: by a user-defined route, to a virtual appliance
    OVERLAY = 130  #: to the node whose pods' CIDR the fabric routes
    PEERING = 131
    INTERNET = 132  #: through the load balancer, with its address
    LB_REPLY = (
        133  #: an answer to that, back to its node; or one to what a rule let in, with the rule's address
    )
    LB_RULE = 134  #: by a rule of the load balancer
    PLATFORM = 135  #: to Azure's own 168.63.129.16 or 169.254.169.254, and back
    ARP = 136  #: answered with the gateway's MAC
    GATEWAY = 137  #: to what lies behind a gateway

    NO_OWNER = 192  #: no NIC has the address
    NO_ROUTE = 193  #: the next hop is None
    SOURCE = 194  #: the source is another's and the NIC's IP forwarding is off
    NOT_FORWARDING = 195  #: the receiving NIC has IP forwarding off and the destination is another's
    GROUP = 196  #: a VNet carries no broadcast or multicast
    PROTOCOL = 197  #: nor GRE or IP in IP; nor anything but ARP and IPv4 here
    NO_OUTBOUND = 198  #: nobody translates on the way to the internet
    SNAT_PORTS = 199  #: the node has no outbound port left
    SNAT_PROTOCOL = 200  #: the load balancer translates TCP and UDP
    SNAT_FRAGMENT = 201  #: and no fragments
    NO_RULE = 202  #: from the internet to nothing that answers
    MTU = 203  #: larger than the VNet carries
    NO_PLACE = 204  #: nobody is there to receive it

    @property
    def lost(self) -> bool:
        """Whether the frame ended here."""
        return self >= Carriage.NO_OWNER
