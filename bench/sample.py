"""Another name of `zsad.bench.dataset`, which plug-ins written for earlier versions import."""

from .data.locate import locate  # noqa: F401
from .dataset import *  # noqa: F403
