"""The export of a version of the served model: written aside, tested, and published with one rename."""
