"""Pages and tables made from a results folder: ``page`` is one self-contained HTML file, ``tables`` are to paste.

Imports no plotting package: figures are read as the SVG files that ``lmstages figures`` wrote.
"""
