"""From frozen features to learned weights."""

from .loop import Recipe, Training, fit, train, train_method

__all__ = ["Recipe", "Training", "fit", "train", "train_method"]
