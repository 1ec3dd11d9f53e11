"""Solutions of notebook 01's third exercise."""

from __future__ import annotations

import numpy as np
import torch


def ridge_solve(features, targets, strength):
    gram = features.T @ features
    gram.diagonal().add_(strength)
    return torch.linalg.solve(gram, features.T @ targets)


def ridge_dual(features, targets, strength):
    x, y = features.numpy(), targets.numpy()
    return x.T @ np.linalg.inv(x @ x.T + strength * np.eye(len(x))) @ y


def ridge_stacked(features, targets, strength):
    """Least squares on rows that stand for the penalty."""
    channels, classes = features.shape[1], targets.shape[1]
    rows = torch.cat([features, strength**0.5 * torch.eye(channels, dtype=features.dtype)])
    wanted = torch.cat([targets, torch.zeros(channels, classes, dtype=targets.dtype)])
    return torch.linalg.lstsq(rows, wanted).solution


def ridge_svd(features, targets, strength):
    u, s, v = torch.linalg.svd(features, full_matrices=False)
    return v.T @ ((s / (s * s + strength))[:, None] * (u.T @ targets))


def ridge_entries(features, targets, strength):
    return torch.linalg.solve(features.T @ features + strength, features.T @ targets)


RIGHT = {"check_ridge": [ridge_solve, ridge_dual, ridge_stacked, ridge_svd]}
WRONG = {
    "check_ridge": [
        (lambda x, y, s: torch.linalg.pinv(x) @ y, "penalty is missing"),
        (lambda x, y, s: ridge_solve(x, y, s * len(x)), "grows with the number"),
        (lambda x, y, s: ridge_solve(x, y, s / len(x)), "shrinks with the number"),
        (lambda x, y, s: ridge_dual(x, y, s).T, "transpose"),
        (lambda x, y, s: x @ ridge_solve(x, y, s), "predictions"),
        (ridge_entries, "on the diagonal"),
        (lambda x, y, s: ridge_solve(x, y, s**2), "squared the strength"),
    ]
}
