"""Fashion-MNIST as arrays, from its files or a download, and a synthetic data set in the same form."""
