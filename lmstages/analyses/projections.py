"""Similarity and two-dimensional projections of vectors.

    cosine       a . b / |a| |b|
    PCA          projection onto the two directions of largest variance                    (Pearson 1901)
    t-SNE        preserves near neighbours, not distances                                 (van der Maaten & Hinton 2008)
    silhouette   (b - a) / max(a, b), a and b a point's mean distance to its own group and to the nearest other one,
                 averaged: 1 for separate groups, 0 for none                              (Rousseeuw 1987)

Knows arrays only.
"""

import numpy as np


def cosines(vectors: np.ndarray) -> np.ndarray:
    """(K, D) -> (K, K) cosine similarities; 0 for a vector of zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1.0)
    return np.asarray(unit @ unit.T)


def principal(vectors: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """PCA: (K, D) -> (K, 2) and the fraction of variance along each axis, whose largest coordinate is positive."""
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    points[:, : min(2, len(sizes))] = (left * sizes)[:, :2]
    largest = np.abs(points).argmax(0)
    points *= np.where(points[largest, [0, 1]] < 0, -1.0, 1.0)
    variance = float((sizes**2).sum()) or 1.0
    return points, [float(size**2) / variance for size in [*sizes, 0.0, 0.0][:2]]


PERPLEXITY = 8.0  # of t-SNE: effective number of neighbours; at most a third of the points


def tsne(vectors: np.ndarray) -> np.ndarray:
    """t-SNE: (K, D) -> (K, 2), deterministic."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="random", random_state=0).fit_transform(vectors))


def silhouette(vectors: np.ndarray, groups: np.ndarray) -> float | None:
    """(K, D), (K,) -> the mean silhouette by cosine distance; None without two groups, one of them of two points."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(set(groups.tolist())) < len(groups):
        return None
    return float(silhouette_score(vectors, groups, metric="cosine"))
