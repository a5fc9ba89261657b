"""The client: images in, class names out, over TF Serving's gRPC or REST API, without TensorFlow."""
