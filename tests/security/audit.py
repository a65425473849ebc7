"""An ear on the interpreter: what ran code, started a process, opened a socket or wrote outside a folder."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_PROCESSES = frozenset(
    {
        "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.startfile", "os.fork", "os.forkpty", "pty.spawn",
        "subprocess.Popen", "ctypes.dlopen", "pickle.find_class", "code.__new__", "marshal.loads", "marshal.load",
    }
)  # fmt: skip
_NETWORK = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.")
_CHANGES = frozenset(
    {
        "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
        "os.chown", "os.utime",
    }
)  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_IMPORTERS = ("<frozen importlib", "<frozen zipimport")


class Audit:
    """Hears every event of the interpreter while it is armed; writing in the folder is allowed.

    The interpreter keeps a hook until it ends; one that is not armed looks at a flag and no more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.realpath(folder)
        self._subject = ""
        self._busy = False
        self.heard: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def armed(self, subject: str) -> Iterator[None]:
        """Hear what happens in the block, as the doing of `subject`."""
        self._subject = subject
        try:
            yield
        finally:
            self._subject = ""

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._subject or self._busy:
            return
        self._busy = True
        try:
            fault = self._fault(event, args, sys._getframe(1))
            if fault:
                self.heard.append(f"{self._subject}: {fault}")
        finally:
            self._busy = False

    def _fault(self, event: str, args: tuple[Any, ...], caller: FrameType) -> str:
        if event in ("exec", "compile"):
            return self._ran(event, args, caller)
        if event in _PROCESSES or event.startswith(_NETWORK):
            importing = event.startswith("marshal.") and _is_importing(caller)
            return "" if importing else f"{event} {args!r:.200}"
        if event == "open":
            path, _, flags = args
            return f"wrote {path!r}" if isinstance(flags, int) and flags & _WRITES and self._outside(path) else ""
        if event in _CHANGES:
            return f"{event} {args!r:.200}" if any(self._outside(path) for path in _named(event, args)) else ""
        return ""

    def _ran(self, event: str, args: tuple[Any, ...], caller: FrameType) -> str:
        if event == "compile" and caller.f_code is ast.parse.__code__:
            return ""  # a tree, of which nothing runs
        code = args[0]
        origin = code.co_filename if isinstance(code, CodeType) else str(args[-1])
        if _is_importing(caller) and not self._inside(origin):
            return ""
        return f"{event} of {origin!r} by {caller.f_code.co_filename}"

    def _outside(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False  # an open file
        name = os.fsdecode(path)
        return name != os.devnull and not self._inside(name)

    def _inside(self, name: str) -> bool:
        found = os.path.realpath(name)
        return found == self._folder or found.startswith(self._folder + os.sep)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a frame is part of an import statement's work."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTERS):
            return True
        frame = frame.f_back
    return False


def _named(event: str, args: tuple[Any, ...]) -> list[Any]:
    """The paths an event changes; those relative to an open folder have been walked to from a path that was seen."""
    if event == "os.rename":
        source, target, source_folder, target_folder = args
        return [path for path, folder in ((source, source_folder), (target, target_folder)) if folder in (None, -1)]
    if event == "os.symlink":
        return [args[1]] if args[2] in (None, -1) else []
    if event == "os.link":
        return [path for path, folder in zip(args[:2], args[2:], strict=False) if folder in (None, -1)]
    folder = args[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else None
    return [args[0]] if folder in (None, -1) else []
