"""Models that are fitted by gradient descent."""
