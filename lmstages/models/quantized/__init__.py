"""Quantized models: derived from a fitted LLaMA, with fewer bits per weight."""
