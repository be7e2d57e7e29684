# What Snakemake's own report, snakemake --report FILE, says of each figure: category, text, title and caption.

import re


def drawing(wildcards):
    """What figures/index.json says of a file of figures/: title, caption, and the text and model that it is of."""
    drawings = json.loads(Path(ROOT, "figures", "index.json").read_text(encoding="utf-8"))
    return next(entry for entry in drawings if entry["svg"] == f"{wildcards.kind}/{wildcards.name}.svg")


def drawing_category(wildcards):
    """Of Snakemake's own report, whose categories are in alphabetical order."""
    return "Figures of a model" if "model" in drawing(wildcards)["group"] else "Figures"


def drawing_text(wildcards):
    group = drawing(wildcards)["group"]
    return f"Text: {group['corpus']}" if "corpus" in group else "Over several texts"


def drawing_label(wildcards):
    return {"figure": drawing(wildcards)["title"]}


class Captions:
    """The captions of the drawings as reStructuredText, read when Snakemake's own report asks for one.

    A parameter that Snakemake cannot keep, so that it never runs a job again.
    """

    def __getitem__(self, wildcards):
        return re.sub(r"([\\*_`|<>])", r"\\\1", drawing(wildcards)["caption"])

    def __repr__(self):
        return "of figures/index.json"
