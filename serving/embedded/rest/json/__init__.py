"""Bodies of requests and answers as JSON, read and printed as TF Serving does."""
