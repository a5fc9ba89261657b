"""What makes a version of a directory: the runtime that loads it, its warmup and its self-test."""
