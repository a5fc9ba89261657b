"""A version of the served model: written aside, tested, and published at once."""
