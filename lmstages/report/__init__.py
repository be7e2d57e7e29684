"""A comparison, told: ``page`` is one file that needs nothing else, ``tables`` are to paste: Markdown, LaTeX, CSV."""
