"""labelclean finds and corrects wrong labels of factory inspection images.

`clean_labels`, for data in memory, `clean_label_sets`, for several labels on one image, and `clean_shards`, for data on
disk, are the whole Python surface; the command line and the Prefect flows do the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from labelclean.errors import (
    ConfigError,
    DeviceError,
    ExchangeError,
    GateError,
    LabelcleanError,
    LockError,
    StorageError,
    TableError,
)

if TYPE_CHECKING:
    from labelclean.cleaning.clean import clean_labels
    from labelclean.cleaning.several import clean_label_sets
    from labelclean.cleaning.streaming import clean_shards

__all__ = [
    "ConfigError",
    "DeviceError",
    "ExchangeError",
    "GateError",
    "LabelcleanError",
    "LockError",
    "StorageError",
    "TableError",
    "clean_label_sets",
    "clean_labels",
    "clean_shards",
]


_DOORS = {
    "clean_labels": "labelclean.cleaning.clean",
    "clean_label_sets": "labelclean.cleaning.several",
    "clean_shards": "labelclean.cleaning.streaming",
}


def __getattr__(name: str) -> Any:
    """Import the functions when they are asked for, so that `import labelclean` costs nothing."""
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'labelclean' has no attribute {name!r}")
