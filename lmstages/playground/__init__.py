"""A page where a person types and several fitted models read."""
