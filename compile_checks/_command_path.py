"""Keeps files of the working folder from replacing modules of the standard library.

`python -m compile_checks` searches the working folder first, so that a `json.py` there would be
imported instead of the standard library's. The command adds the folder again for its targets.
"""

from __future__ import annotations

import sys

if (
    sys.argv[:1] == ["-m"]
    and "compile_checks" in sys.orig_argv
    and not getattr(sys.flags, "safe_path", False)
):
    del sys.path[0]
