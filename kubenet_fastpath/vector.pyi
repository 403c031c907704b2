"""Columns that callers give to batch verbs: C interface only."""
