"""Trains the Fashion-MNIST model and exports it as a SavedModel; the only package that builds Keras models."""
