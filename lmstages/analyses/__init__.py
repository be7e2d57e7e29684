"""Analyses beside the average scores: samples, positions, probes of fitted models, amounts of text."""
