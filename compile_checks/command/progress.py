"""A progress bar, shown only on a terminal."""

from __future__ import annotations

import sys
from typing import TextIO

_WIDTH = 80
_BAR = 20


class Progress:
    """Shows on one line of standard error how many cases are done and which one is running.

    >>> import io
    >>> progress = Progress(3, stream := io.StringIO())
    >>> progress.show(1, "step")
    >>> stream.getvalue()  # not a terminal, so nothing is written
    ''
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()

    def show(self, done: int, name: str) -> None:
        """Updates the line."""
        if self._shown:
            filled = _BAR * done // self._total
            bar = "#" * filled + "-" * (_BAR - filled)
            line = f"[{bar}] {done}/{self._total} {name}"
            self._write(line[: _WIDTH - 1])

    def close(self) -> None:
        """Clears the line."""
        if self._shown:
            self._write("")

    def _write(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()
