"""The REST port: the HTTP API of TF Serving."""
