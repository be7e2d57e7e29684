"""Executes docs/notebook.ipynb in an empty folder and writes its outputs into it:  python docs/notebook.py

The tests execute it in the same way and compare what it prints with what is stored.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from lmstages.core.files import atomic_write

PATH = Path(__file__).with_name("notebook.ipynb")
SECONDS = 600  # for a cell
FIXED = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "COLUMNS": "80"}


def executed(folder: Path) -> Any:
    """The notebook with the outputs of a run in ``folder``; an error of a cell is an error here."""
    notebook = nbformat.read(PATH, as_version=4)
    paths = [str(PATH.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    here = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    before = dict(os.environ)
    os.environ |= {**FIXED, **here, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main() -> None:
    """Write the outputs."""
    with tempfile.TemporaryDirectory() as folder:
        text = nbformat.writes(executed(Path(folder)))
    with atomic_write(PATH) as file:
        file.write(f"{text}\n".encode())


if __name__ == "__main__":
    main()
