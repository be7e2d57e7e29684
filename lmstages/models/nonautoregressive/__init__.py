"""Models that are fitted to predict tokens in other orders than from left to right."""
