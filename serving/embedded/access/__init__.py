"""Who may ask for what: tokens and their scopes, certificates."""
