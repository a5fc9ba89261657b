"""What all parts must agree on: errors and exit codes, whole files, a quiet stderr, the served model, its directories.

Standard library only.
"""
