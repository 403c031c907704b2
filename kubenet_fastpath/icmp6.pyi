# Nothing for Python: the C interface is in icmp6.pxd.
