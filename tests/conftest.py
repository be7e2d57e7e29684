"""What several test files need."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with the published corpora, beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the published corpora do not lie beside the checkout")
    return folder
