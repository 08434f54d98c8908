"""The former home of `zsad.bench.anomaly_maps`: methods that `zsad new` wrote import from here."""

from ..bench.anomaly_maps import smooth, state_probabilities, upsample

__all__ = ["smooth", "state_probabilities", "upsample"]
