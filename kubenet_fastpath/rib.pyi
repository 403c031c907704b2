# Nothing for Python: the C interface is in rib.pxd.
