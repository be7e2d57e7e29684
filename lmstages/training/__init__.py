"""Gradient descent, once for every network; how it goes on after a kill, where it runs, and what it costs."""
