"""The gRPC port, on an HTTP/2 of its own."""
