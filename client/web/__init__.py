"""The page: what a served model answers, in a browser."""
