"""Starts the command line from a process that has imported everything, so that a test can afford to start it often.

Every start is a fork of its own, a whole process: it can be killed, limited, and raced against others.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class Preloaded:
    """The parent of the command lines."""

    def __init__(self) -> None:
        """Import everything once."""
        command = [sys.executable, "-W", "ignore", "-m", "tests.preloaded"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._answer()

    def start(
        self, *argv: str, said: Path, most_bytes_per_file: int | None = None, environ: Mapping[str, str] | None = None
    ) -> int:
        """Start `labelclean ARGV`, what it says going to a file; returns its process id."""
        question = {"argv": argv, "said": str(said), "limit": most_bytes_per_file, "environ": dict(environ or {})}
        return int(self._ask(question))

    def exit_code(self, pid: int) -> int:
        """Wait for a command line; minus the signal where one ended it."""
        return os.waitstatus_to_exitcode(int(self._ask({"wait": pid})))

    def run(
        self, *argv: str, said: Path, most_bytes_per_file: int | None = None, environ: Mapping[str, str] | None = None
    ) -> int:
        """Start and wait."""
        return self.exit_code(self.start(*argv, said=said, most_bytes_per_file=most_bytes_per_file, environ=environ))

    def close(self) -> None:
        """End it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(timeout=60)

    def _ask(self, question: dict[str, Any]) -> Any:
        if self._process.stdin is None:
            raise RuntimeError
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        if self._process.stdout is None:
            raise RuntimeError
        return json.loads(self._process.stdout.readline())


def main() -> None:
    """Serve starts and waits until the pipe is closed."""
    import labelclean.cleaning.clean
    import labelclean.cli
    import labelclean.features.backbone
    import labelclean.features.extraction
    import labelclean.probes.feature_space
    import labelclean.report.content
    import labelclean.report.gallery
    import labelclean.report.html
    import labelclean.runs.steps
    import labelclean.runs.summary  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            print(os.waitpid(question["wait"], 0)[1], file=answers, flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _become(question)
        print(pid, file=answers, flush=True)


def _become(question: dict[str, Any]) -> None:
    """Be the command line, in the child."""
    from labelclean.cli import main as command_line

    said = os.open(question["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for stream, place in ((0, nothing), (1, said), (2, said)):
        os.dup2(place, stream)
    if question["limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (question["limit"], question["limit"]))
    os.environ.update(question["environ"])
    sys.argv = ["labelclean", *question["argv"]]
    try:
        command_line()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
