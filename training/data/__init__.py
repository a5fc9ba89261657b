"""Fashion-MNIST as arrays: where it is found, how it is prepared, and a drawn stand-in."""
