"""What is watched of every call: metrics and the access log."""
