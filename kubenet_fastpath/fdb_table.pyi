# Nothing for Python: the C interface is in fdb_table.pxd.
