# Nothing for Python: the C interface is in arp.pxd.
