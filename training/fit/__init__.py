"""Models and their fit: networks, batches, the loop, checkpoints, evaluation."""
