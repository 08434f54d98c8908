"""From frozen features to learned weights."""

from .loop import Training, TrainingConfig, fit, train, train_method

__all__ = ["Training", "TrainingConfig", "fit", "train", "train_method"]
