"""
A mail receiver and a webhook receiver, each run as a process: `python -m bgtasks_project.smoke.receivers mail LOG`.

The first line of output is the port. Each arrival is appended to LOG as a line of JSON before it is answered. The
process ends with its standard input, so that it never outlives the process that started it.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import hashlib
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session

SECONDS = {"slow": 1.5, "stall": 60.0}  # Until the answer to a webhook under /slow/ or /stall/.


class Log:
    """A file of JSON lines, each written by one call."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *, task_id: str, key: str, is_refused: bool) -> None:
        line = {"task_id": task_id, "key": key, "is_refused": is_refused}
        os.write(self._file, json.dumps(line).encode() + b"\n")


def digest(value: Any) -> str:
    """Return a short text that is the same for equal JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class MailHandler:
    """Accepts mail, but refuses bounce…@ before the message and spam…@ after it."""

    def __init__(self, log: Log) -> None:
        self.log = log

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if address.startswith("bounce"):
            self.log.write(task_id="", key=address, is_refused=True)
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        is_refused = envelope.rcpt_tos[0].startswith("spam")
        self.log.write(task_id=message["X-Task-ID"], key=envelope.rcpt_tos[0], is_refused=is_refused)
        return "554 5.7.1 Looks like spam" if is_refused else "250 OK"


class WebhookApplication:
    """Answers 200 under /ok/, later under /slow/, after every timeout under /stall/, and 500 under /refuse/."""

    def __init__(self, log: Log) -> None:
        self.log = log

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":  # An incomplete request is no arrival.
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        how = scope["path"].split("/")[1]
        is_refused = how == "refuse"
        task_id = dict(scope["headers"])[b"x-task-id"].decode()
        self.log.write(task_id=task_id, key=digest(json.loads(body)), is_refused=is_refused)
        await asyncio.sleep(SECONDS.get(how, 0))
        await send({"type": "http.response.start", "status": 500 if is_refused else 200, "headers": []})
        await send({"type": "http.response.body", "body": b"refused" if is_refused else b"ok"})


async def receive_mail(listener: socket.socket, log: Log) -> None:
    handler = MailHandler(log)
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(handler, hostname="localhost"), sock=listener)
    await server.serve_forever()


async def receive_webhooks(listener: socket.socket, log: Log) -> None:
    # Connections stay open for longer than the run. If the receiver closed one just as the sender reuses it, a delivery
    # would really fail, and the ledger does not expect that.
    config = uvicorn.Config(WebhookApplication(log), lifespan="off", log_level="error", timeout_keep_alive=600)
    await uvicorn.Server(config).serve(sockets=[listener])


def end_with_standard_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main(kind: str, path: str) -> None:
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    receive = {"mail": receive_mail, "webhooks": receive_webhooks}[kind]
    asyncio.run(receive(listener, Log(Path(path))))


if __name__ == "__main__":
    main(*sys.argv[1:])
