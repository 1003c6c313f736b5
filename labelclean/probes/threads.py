"""The only module that knows threadpoolctl: small products run on one thread.

OpenBLAS lets its threads wait for each other by spinning, at every product. Where products are small that gains nothing,
and where the cores are busy with something else it is ruinous: cleaning 2,000 samples took 134 s, and takes 12 on one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy's products run on one thread, within a `with` or a decorated function; costs some 40 microseconds."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """What threads the libraries have, looked up once: that takes milliseconds."""
    return ThreadpoolController()
