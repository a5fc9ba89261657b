"""The client's own commands."""
