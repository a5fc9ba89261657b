"""What a run looks like: its figures and its page."""
