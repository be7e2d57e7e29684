"""Score files to rows of a table, how far to trust each, what others printed, and two runs side by side."""
