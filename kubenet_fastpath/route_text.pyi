# Nothing for Python: the C interface is in route_text.pxd.
