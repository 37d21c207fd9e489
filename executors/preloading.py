"""tcmalloc for processes that are started, where the machine has it.

In: where it lies. Out: which processes take it (`networks.allocator`, workers).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

_TCMALLOC = "libtcmalloc_minimal.so.4"
_FOLDERS = ("/usr/lib/*", "/usr/lib64", "/usr/lib", "/usr/local/lib")


def with_tcmalloc() -> dict[str, str]:
    """Returns the environment that a process needs beside this one's for tcmalloc.

    It is empty where there is no tcmalloc, or it is in already.
    """
    preloaded = os.environ.get("LD_PRELOAD", "")
    library = next(_installed(), None)
    if library is None or _TCMALLOC in preloaded:
        return {}
    return {"LD_PRELOAD": " ".join(filter(None, [str(library), preloaded]))}


def _installed() -> Iterator[Path]:
    for folder in (*_FOLDERS, f"{sys.prefix}/lib"):
        yield from Path("/").glob(f"{folder.lstrip('/')}/{_TCMALLOC}")
