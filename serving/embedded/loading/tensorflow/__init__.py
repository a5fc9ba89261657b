"""The TensorFlow runtime; the only room of the server that imports TensorFlow."""
