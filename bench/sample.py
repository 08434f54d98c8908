"""Another name of `zsad.bench.dataset`, which plug-ins written for earlier versions import."""

from .dataset import *  # noqa: F403
from .errors import LayoutError  # noqa: F401
from .locate import locate  # noqa: F401
