"""A server that takes the flags of `tensorflow_model_server` and answers as it does, where the real one cannot run."""
