# Nothing for Python: the C interface is in prefix_list.pxd.
