"""Source files: those of the project itself are shown before those of libraries."""

from __future__ import annotations

import functools
import re
from pathlib import Path

# Patterns instead of this machine's folders, since a stored traceback may come from another machine.
_LIBRARIES = re.compile(
    r"""
    (^|/)(site|dist)-packages/          # packages of pip and Debian
    | /lib(64)?/(python|pypy)[\d.]*/    # the standard library
    | /python[\d.]*/lib/                # the standard library on Windows
    """,
    re.VERBOSE | re.IGNORECASE,
)
_OWN = Path(__file__).resolve().parent.as_posix() + "/"


@functools.lru_cache(maxsize=4096)
def is_project_file(file: str) -> bool:
    """
    Return whether a source file belongs to the project, not to Python, an installed package or bgtasks.

    >>> is_project_file("/srv/shop/orders/tasks.py")
    True
    >>> is_project_file("/srv/shop/.venv/lib/python3.11/site-packages/httpx/_client.py")
    False
    >>> is_project_file("/usr/lib/python3.11/asyncio/tasks.py"), is_project_file("<frozen runpy>")
    (False, False)
    """
    path = file.replace("\\", "/")
    return not (path.startswith(("<", _OWN)) or _LIBRARIES.search(path))
