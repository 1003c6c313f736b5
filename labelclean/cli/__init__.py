"""What can be typed? One file per group of commands; heavy libraries are imported inside the commands that use them.

For others: `main`, which `labelclean` and `python -m labelclean.cli` call. `entry` lists the commands; `run`, `review`,
`night`, `trial` and `adapt` hold them; `arguments` and `process` hold what they share.
"""

from labelclean.cli.entry import main

__all__ = ["main"]
