"""Models and how they are fitted: networks, batches, the loop, checkpoints, evaluation."""
