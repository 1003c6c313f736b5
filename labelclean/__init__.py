"""labelclean finds and corrects wrong labels of factory inspection images.

`clean_labels`, for data in memory, and `clean_shards`, for data on disk, are the whole Python
surface; the command line and the Prefect flows do the rest.
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
    "clean_labels",
    "clean_shards",
]


def __getattr__(name: str) -> Any:
    """Import the two functions when they are asked for, so that `import labelclean` costs nothing."""
    if name == "clean_labels":
        return import_module("labelclean.cleaning.clean").clean_labels
    if name == "clean_shards":
        return import_module("labelclean.cleaning.streaming").clean_shards
    raise AttributeError(f"module 'labelclean' has no attribute {name!r}")
