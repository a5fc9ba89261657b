"""Which versions are on disk, which are loaded, and who uses them. Free of TensorFlow and of requests."""
