"""Gradient descent for every network: the loop, its optimizers, resuming after a kill, devices, and its FLOPs."""
