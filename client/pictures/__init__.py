"""From what a user has to uint8 [28, 28]: sources, decoding, batches."""
