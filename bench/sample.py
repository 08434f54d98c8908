"""Another name of `zsad.bench.dataset`, which plug-ins written for earlier versions import."""

from .dataset import *  # noqa: F403
from .locate import locate  # noqa: F401
