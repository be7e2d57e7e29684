"""File formats and engines of other projects."""
