"""labelclean finds and corrects wrong labels of factory inspection images.

`labelclean.clean_labels` is the whole Python surface; the command line and the
Prefect flows do the rest.
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
    from labelclean.cleaning import clean_labels

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
]


def __getattr__(name: str) -> Any:
    """Import `clean_labels` when it is asked for, so that `import labelclean` costs nothing."""
    if name == "clean_labels":
        return import_module("labelclean.cleaning").clean_labels
    raise AttributeError(f"module 'labelclean' has no attribute {name!r}")
