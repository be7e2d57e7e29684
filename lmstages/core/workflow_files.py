"""Where the workflow lies (Snakefile, config.yaml, workflow/, runs/, profiles/), and how a person starts it.

At the top of a checkout, or in an installed package, where ``setup.py`` has put the same files into a folder of it.
Reads nothing besides.
"""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
INSTALLED = PACKAGE / "workflow"
IS_INSTALLED = (INSTALLED / "Snakefile").is_file()
WORKFLOW = INSTALLED if IS_INSTALLED else PACKAGE.parent
SNAKEFILE = WORKFLOW / "Snakefile"
SCHEMA = WORKFLOW / "docs" / "config.schema.json"
STARTER = "the workflow (lmstages run)" if IS_INSTALLED else "snakemake"  # as in: run ... again
FOUND_BY_SNAKEMAKE = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")  # without --snakefile


def snakefile_option(folder: Path) -> list[str]:
    """What Snakemake needs in ``folder`` to find the workflow: nothing where the folder has a Snakefile of its own."""
    has_one = any((folder / name).is_file() for name in FOUND_BY_SNAKEMAKE)
    return [] if has_one else ["--snakefile", str(SNAKEFILE)]


def run_names() -> list[str]:
    """The runs that come with the workflow, for ``lmstages run NAME``."""
    return sorted(path.stem for path in (WORKFLOW / "runs").glob("*.yaml"))


def profile_names() -> list[str]:
    """The profiles of Snakemake that come with the workflow."""
    return sorted(path.parent.name for path in (WORKFLOW / "profiles").glob("*/config.yaml"))
