"""TF Serving's two APIs under one interface: addresses, security, retries, messages to and from the client's types."""
