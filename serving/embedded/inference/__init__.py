"""One request on a loaded version, from either front end: checked, merged with others, run, answered."""
