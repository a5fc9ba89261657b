"""The tests mirror the packages; what they share is in `tests.support`."""
