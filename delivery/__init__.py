"""How a version gets from where it was made to where it is served: signed, fetched, verified."""
