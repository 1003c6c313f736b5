"""Lets atheris search one door for bad input, guided by the code that each input reaches.

`python -m tests.search DOOR SECONDS FOLDER`; DOOR is one of `tests.fuzz.DOORS`, FOLDER an empty place. Ends with a
code other than 0 at the first input that is neither a success nor a refusal, and leaves that input in FOLDER.
"""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path

SEEDS = 200


def main() -> None:
    """Import the door with every branch watched, give it a few inputs to start from, and search."""
    atheris = importlib.import_module("atheris")  # optional: where pip finds no wheel, the tests by hypothesis stand
    with atheris.instrument_imports(include=["labelclean"]):
        from tests import fuzz

    fuzz.HANG_S = 300  # watched code is slow
    door, seconds, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    call, source = fuzz.opened(door, folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number in range(SEEDS):
        (corpus / str(number)).write_bytes(source(random.Random(number)))

    def one_input(data: bytes) -> None:
        call(data)

    options = [f"-max_total_time={seconds}", "-max_len=100000", "-rss_limit_mb=4096", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
