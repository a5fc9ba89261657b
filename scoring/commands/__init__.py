"""The command `fashion score`."""
