"""Two versions side by side: the same inputs to both, their answers counted, their latencies measured in turn."""
