"""
The spool: one file for each process, with the records that the database did not take before the process ended.

Each line holds a checksum and one record as JSON. The next process that starts reads the file, see
`maintenance/spool_reader.py`. The fences of the writer make it harmless to read a file twice, or after a verdict.
"""

from __future__ import annotations

import contextvars
import copy
import hashlib
import json
import logging
import os
import stat
import tempfile
import threading
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connections

from ..conf import Settings
from ..definition import Task
from ..failure import Failure
from ..log import log
from ..process.extras import Extras
from ..process.record import NO_LOOP, Record
from ..status import Status
from .statements import fired_by

VERSION = 2
DONE = ".jsonl"
NONE = ("null", "null")


class Damaged(ValueError):
    """A line that differs from the written one."""


def find_folder(settings: Settings) -> Path:
    """
    Return the folder of the spool files; make it if it does not exist.

    Raises:
        PermissionError: other users could write there. A spool file decides which tasks of the project run.
    """
    if settings.spool_path is not None:
        folder = Path(settings.spool_path)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"bgtasks-{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (owner != "user" and (found.st_uid != owner or found.st_mode & 0o022)):
        raise PermissionError(f"{folder} does not belong to this user alone: set SPOOL_PATH to a folder that does.")
    return folder


def prefix_of(alias: str) -> str:
    """Return the common prefix of the files of one database: several projects may share a folder."""
    settings = connections[alias].settings_dict
    identity = "\n".join(str(settings.get(key, "")) for key in ("ENGINE", "NAME", "HOST", "PORT"))
    return f"bgtasks-{hashlib.sha256(identity.encode()).hexdigest()[:12]}-"


def keep(settings: Settings, alias: str, process_id: UUID, records: Iterable[Record]) -> None:
    """Write records that the database did not take to a file, and log their number. The next process reads it."""
    records = list(records)
    names = Counter(record.name for record in records)
    shown = ", ".join(f"{name} ×{count}" for name, count in names.most_common(10))
    records = [record for record in records if _is_to_be_kept(record)]
    if not records:
        return
    try:
        path = write(find_folder(settings), alias, process_id, settings.release, records)
    except Exception as error:  # noqa: BLE001, RUF100  # The disk may be full, too, and the process has to end.
        message = "The last states of %s tasks could not be recorded, nor spooled (%s): %s"
        log(logging.ERROR, message, len(records), error, shown)
    else:
        message = "The database did not take the last states of %s tasks; the next start reads them from %s: %s"
        log(logging.ERROR, message, len(records), path, shown)


def _is_to_be_kept(record: Record) -> bool:
    """Return whether the record is to be spooled. From then on its `afire` cannot withdraw it any more."""
    if record.is_recorded_first and not record.is_sent:
        record.is_sent = record.take() or not record.is_live
    return not record.is_recorded_first or record.is_sent


def write(folder: Path, alias: str, process_id: UUID, release: str, records: Iterable[Record]) -> Path:
    """Write a spool file; it appears under its name only once all of it is on the disk."""
    path = folder / f"{prefix_of(alias)}{process_id}{DONE}"
    while path.exists():  # Another thread wrote it while this one hung. Each of the two files may lack some records.
        path = path.with_name(f"{path.stem}+{DONE}")
    part = path.with_suffix(f".{threading.get_ident()}.part")  # A thread that hangs may get here later.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        for record in records:
            file.write(encode(record, process_id, release) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    return path


def encode(record: Record, process_id: UUID, release: str) -> str:
    failure = record.failure
    text = json.dumps(
        {
            "version": VERSION,
            "process": str(process_id),
            "release": release,
            "id": str(record.id),
            "name": record.name,
            "is_function": record.task is not None,
            "on_lost": record.on_lost,
            "stuck_after": record.task.stuck_after if record.task is not None else None,
            # An existing row has its arguments, and the record of a claimed row has no JSON of them.
            "arguments": list(record.encode_arguments() if record.written is None else NONE),
            "is_stripped": record.is_stripped,
            "history": [[status.value, at, attempt, why] for status, at, attempt, why in record.history],
            "prior": list(record.prior),
            "offset": record.offset,
            "written": [record.written[0].value, record.written[1]] if record.written is not None else None,
            "failure": [failure.type, failure.message, failure.traceback, failure.fingerprint] if failure else None,
            "result": record.result_text,
            "fired_by": fired_by(record.scope) if record.scope is not None else None,
            "fingerprint": record.task.signature_fingerprint if record.task is not None else "",
            "max_attempts": record.task.max_attempts if record.task is not None else 1,
            "extras": record.extras.as_dict() if record.extras is not None else None,
        }
    )
    return f"{zlib.crc32(text.encode()):08x} {text}"


def decode(line: str, functions: Mapping[str, Task[Any, Any]]) -> tuple[UUID, str, Record]:
    """
    Return the process that spooled a line, its release, and the record.

    Raises:
        Damaged: the line differs from the written one.
    """
    checksum, _, text = line.partition(" ")
    if checksum != f"{zlib.crc32(text.encode()):08x}":
        raise Damaged("its checksum does not fit")
    try:
        found = json.loads(text)
        if found["version"] != VERSION:
            raise Damaged(f"it is of version {found['version']}")
        return UUID(found["process"]), found["release"], _make_record(found, functions)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error


def _make_record(found: dict[str, Any], functions: Mapping[str, Task[Any, Any]]) -> Record:
    name = found["name"]
    task = None
    if found["is_function"]:
        known = functions.get(name) or Task(_not_known_here, name=name)
        task = copy.copy(known.restored({}, found["on_lost"], found["stuck_after"], found["max_attempts"]))
        # The fingerprint of the code that fired it: this process may have another version, or not know the function.
        task.signature_fingerprint = found.get("fingerprint", "")
    history = [(Status(status), at, attempt, why) for status, at, attempt, why in found["history"]]
    record = Record(UUID(found["id"]).int, name, task, (), {}, NO_LOOP, contextvars.Context(), history[0])
    record.history = history
    args, kwargs = found["arguments"]
    record.encoded = (args, kwargs)
    record.is_stripped = found["is_stripped"]
    record.prior, record.offset = found["prior"], found["offset"]
    if found["written"] is not None:
        status, attempt = found["written"]
        record.written = (Status(status), attempt)
        states = [(status, attempt) for status, _, attempt, _ in history]
        record.announced = states.index(record.written) + 1 if record.written in states else 1
    if found["failure"] is not None:
        record.failure = Failure(*found["failure"])
    record.result_text = found["result"]
    if found["extras"] is not None:
        record.extras = Extras.from_dict(found["extras"])
    if found["fired_by"] is not None:
        request = json.loads(found["fired_by"])
        sent = request.get("request_id")
        headers = [(b"x-request-id", sent.encode("latin-1", "replace"))] if sent else []
        record.scope = {"method": request["method"], "path": request["path"], "headers": headers}
    return record


async def _not_known_here() -> None:
    """Stand in for a function that this process does not know: its row is written, and it does not run here."""
