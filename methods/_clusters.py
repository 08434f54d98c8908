"""K-means of an image's patches, the same in every run, and means over its clusters.

Axes: R rows, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CLUSTER_SEED = 111  # that AdaCLIP's released code starts numpy's generator from


def cluster_labels(rows: Tensor, clusters: int) -> Tensor:
    """Labels [R] of rows [R, D] by scikit-learn's k-means; fewer clusters for fewer rows.

    The released AdaCLIP code draws from numpy's global generator, so that its labels depend on how
    many images were clustered before; here each image has those of the first.
    """
    from sklearn.cluster import KMeans  # 200 ms, for the methods that cluster alone

    fitted = KMeans(min(clusters, len(rows)), n_init="auto", random_state=CLUSTER_SEED)
    labels = fitted.fit_predict(rows.detach().cpu().numpy())
    return torch.from_numpy(labels).long().to(rows.device)


def mean_of_clusters(rows: Tensor, labels: Tensor) -> Tensor:
    """Means [clusters, D] of the rows [R, D] of each label [R] that there is, in rising order."""
    members = F.one_hot(labels).to(rows.dtype)  # [R, labels]
    counts = members.sum(dim=0)
    there = counts > 0
    return (members.T @ rows)[there] / counts[there, None]
