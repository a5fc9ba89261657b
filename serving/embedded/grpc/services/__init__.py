"""The services of the gRPC port: TF Serving's own, and those that gRPC's and TensorFlow's tools expect."""
