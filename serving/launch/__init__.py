"""`fashion serve`: a backend is chosen, prepared and run."""
