"""The stages of a run whose seconds records state."""

from typing import Final

STAGES: Final = ("read", "forward", "predict", "metrics", "wait")
"""Waiting for images, the shared visual forward, a method's own work, its metrics, which a thread
computes beside all others, and waiting for that thread; all but forward and predict are stated
where a profile is asked for."""
