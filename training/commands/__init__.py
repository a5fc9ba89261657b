"""Training's commands, a module each: options to one call, and what is printed of its result."""
