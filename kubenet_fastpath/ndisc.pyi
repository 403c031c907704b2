# Nothing for Python: the C interface is in ndisc.pxd.
