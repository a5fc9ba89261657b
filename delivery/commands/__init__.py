"""The commands `fashion verify` and `fashion pull`."""
