"""TF Serving's API, the backends that speak it, and the embedded server; free of TensorFlow until a model is loaded."""
