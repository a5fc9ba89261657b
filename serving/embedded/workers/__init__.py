"""Several processes on the same ports: `--workers`."""
