"""What all parts share: errors with exit codes, whole files, a quiet stderr. Standard library only."""
