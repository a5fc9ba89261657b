"""`fashion label` and `fashion rollback`."""
