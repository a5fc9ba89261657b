"""The TensorFlow runtime: the only folder of the server that imports TensorFlow."""
