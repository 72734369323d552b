"""Which source files are the project's own, so that people are shown their code before anybody else's."""

from __future__ import annotations

import functools
import re
from pathlib import Path

# By their shape, not by this machine's folders: a stored traceback may come from another one.
_LIBRARIES = re.compile(
    r"""
    (^|/)(site|dist)-packages/          # what pip and Debian install
    | /lib(64)?/(python|pypy)[\d.]*/    # the standard library
    | /python[\d.]*/lib/                # the standard library on Windows
    """,
    re.VERBOSE | re.IGNORECASE,
)
_OWN = Path(__file__).resolve().parent.as_posix() + "/"


@functools.lru_cache(maxsize=4096)
def is_project_file(file: str) -> bool:
    """
    Tell whether a source file belongs to the project: not to Python, an installed package or bgtasks.

    >>> is_project_file("/srv/shop/orders/tasks.py")
    True
    >>> is_project_file("/srv/shop/.venv/lib/python3.11/site-packages/httpx/_client.py")
    False
    >>> is_project_file("/usr/lib/python3.11/asyncio/tasks.py"), is_project_file("<frozen runpy>")
    (False, False)
    """
    path = file.replace("\\", "/")
    return not (path.startswith(("<", _OWN)) or _LIBRARIES.search(path))
