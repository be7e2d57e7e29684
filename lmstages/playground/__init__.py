"""A page where a person types a prompt and several fitted models continue it."""
