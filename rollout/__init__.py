"""The next version: labels that move, with what speaks for it, while servers answer."""
