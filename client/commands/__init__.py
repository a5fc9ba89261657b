"""The client's commands, a module each: options -> one call -> what is printed."""
