# Nothing for Python: the C interface is in table_file.pxd.
