"""Makes pytest find this project as if it were installed."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def python_path(folder: Path) -> str:
    """Returns a `PYTHONPATH` with the project and the metadata that lets pytest find its plugin."""
    entry_points = re.search(
        r'^\[project\.entry-points\.pytest11\]\n(\w+) = "([\w.]+)"$',
        (ROOT / "pyproject.toml").read_text(),
        flags=re.MULTILINE,
    )
    assert entry_points is not None
    info = folder / "compile_checks_plugin-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: compile_checks_plugin\nVersion: 0\n"
    )
    (info / "entry_points.txt").write_text("[pytest11]\n{} = {}\n".format(*entry_points.groups()))
    return os.pathsep.join([str(folder), str(ROOT)])
