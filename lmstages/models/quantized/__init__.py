"""Models made from a fitted one with fewer bits per weight."""
