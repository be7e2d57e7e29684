"""What was inspected in the fitted models of a corpus, as tables: counts, embeddings, attention, induction, facts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lmstages.analyses.facts import Inspection
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.results import tracing
from lmstages.results.schema import (
    AttentionWeight,
    Cosine,
    EmbeddingPoint,
    Frequency,
    Induction,
    Pair,
    Recalled,
    Restored,
)

Models = Mapping[str, Mapping[str, Any]]  # by name, what the ladder says of each: {title, rank, ...}


@dataclass
class Inspections:
    """All inspected models of a run."""

    frequencies: list[Frequency] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    cosines: list[Cosine] = field(default_factory=list)
    embeddings: list[EmbeddingPoint] = field(default_factory=list)
    attention: list[AttentionWeight] = field(default_factory=list)
    induction: list[Induction] = field(default_factory=list)
    recalled: list[Recalled] = field(default_factory=list)
    restored: list[Restored] = field(default_factory=list)

    def add(self, root: Path, corpus: str, tokenizer: str, models: Models) -> None:
        """``inspection.json`` of one corpus under one tokenizer, and of the arrays beside it what facts are worth."""
        path, beside = (root / corpus / tokenizer / f"inspection.{extension}" for extension in ("json", "safetensors"))
        content = artifacts.load_json(path, Inspection)
        artifacts.must_be_of_one_call(path, beside)
        artifacts.must_be_current(path)
        if unknown := content["models"].keys() - models.keys():
            raise UserError(
                path, f"inspects {', '.join(sorted(unknown))}, no model here", "", artifacts.make_again(path)
            )
        is_traced = any(inspected["tracing"] for inspected in content["models"].values())
        arrays = artifacts.load_arrays(beside)[0] if is_traced else {}
        where, labels = {"corpus": corpus, "tokenizer": tokenizer}, content["labels"]
        counts = zip(labels, content["unigrams"], strict=True)
        self.frequencies += [Frequency(**where, token=token, count=count) for token, count in counts]
        self.pairs += _pairs(where, "", labels, content["bigrams"])
        for name, inspected in content["models"].items():
            of_model = {**where, "model": name, "title": models[name]["title"]}
            if inspected["expected"]:
                self.pairs += _pairs(where, name, labels, inspected["expected"])
            if embedding := inspected["embedding"]:
                self.cosines += _cosines(of_model, labels, embedding)
                self.embeddings += _embedding_points(of_model, labels, embedding)
            if inspected["attention"]:
                self.attention += _attention(of_model, **inspected["attention"])
                score = {key: value for key, value in inspected["induction"].items() if key != "heads"}
                self.induction.append(Induction(**of_model, rank=models[name]["rank"], **score))
            if inspected["tracing"]:
                nats = tracing.nats_of(arrays, beside, name, inspected["tracing"])
                self._add_traced({**of_model, "rank": models[name]["rank"]}, inspected["tracing"], nats)

    def _add_traced(self, of_model: Mapping[str, Any], traced: Mapping[str, Any], nats: np.ndarray) -> None:
        self.recalled += tracing.recalled(of_model, traced["kinds"], nats)
        self.restored += tracing.restored(of_model, traced["sites"], nats)


def _pairs(where: Mapping[str, str], model: str, labels: list[str], counts: list[list[float]]) -> Iterator[Pair]:
    for first, row in zip(labels, counts, strict=True):
        for second, count in zip(labels, row, strict=True):
            yield Pair(**where, model=model, first=first, second=second, count=count)


def _cosines(where: Mapping[str, str], labels: list[str], embedding: Mapping[str, Any]) -> Iterator[Cosine]:
    for first, row in zip(labels, embedding["cosines"], strict=True):
        for second, cosine in zip(labels, row, strict=True):
            yield Cosine(**where, width=embedding["width"], first=first, second=second, cosine=cosine)


def _embedding_points(
    where: Mapping[str, str], labels: list[str], embedding: Mapping[str, Any]
) -> Iterator[EmbeddingPoint]:
    """All tokens by PCA, and the small letters by t-SNE before and after training, where there are any."""
    x_variance, y_variance = embedding["principal"]["shares"]
    variances = {"x_variance": x_variance, "y_variance": y_variance, "silhouette": None}
    yield from _points(where, "PCA", "trained", labels, embedding["kinds"], embedding["principal"]["points"], variances)
    letters = embedding["letters"]
    for stage in ("initial", "trained") if letters else ():
        quality = {"x_variance": None, "y_variance": None, "silhouette": letters["silhouettes"][stage]}
        yield from _points(
            where, "t-SNE", stage, letters["labels"], letters["kinds"], letters["points"][stage], quality
        )


def _points(
    where: Mapping[str, str],
    projection: str,
    stage: str,
    labels: list[str],
    categories: list[str],
    points: list[list[float]],
    quality: Mapping[str, float | None],
) -> Iterator[EmbeddingPoint]:
    shared = {**where, "projection": projection, "stage": stage, **quality}
    for token, group, (x, y) in zip(labels, categories, points, strict=True):
        yield EmbeddingPoint(**shared, token=token, group=group, x=x, y=y)  # type: ignore[arg-type]


def _attention(
    where: Mapping[str, str], labels: list[str], weights: list[list[list[list[float]]]]
) -> Iterator[AttentionWeight]:
    """(layer, head, query, key) weights -> a row each, but for the keys after the query."""
    for layer, heads in enumerate(weights, start=1):
        for head, rows in enumerate(heads, start=1):
            for query, row in enumerate(rows):
                for key, weight in enumerate(row[: query + 1]):
                    yield AttentionWeight(
                        **where,
                        layer=layer,
                        head=head,
                        query=query,
                        key=key,
                        query_token=labels[query],
                        key_token=labels[key],
                        weight=weight,
                    )
