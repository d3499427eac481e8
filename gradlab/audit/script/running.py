"""Runs a user's script in this process, as `python SCRIPT` and `python -m MODULE` would.

The script is `__main__`, gets its own arguments and imports from its folder first. Unhandled exceptions look as usual,
without our frames. Two things differ: `sys.orig_argv`, and unhandled signals, which end the process with status 130
or 143 instead of the signal itself.
"""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
import threading
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.places import add_audited, is_ours
from gradlab.errors import AuditError, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType


class Script(NamedTuple):
    """A script that is ready to run."""

    file: str
    code: CodeType
    spec: ModuleSpec | None = None  # only of a module


def script(name: str, command: str) -> Script:
    """Return the script in a file; imports search its folder first from now on.

    `command` is sys.argv[0] of our own command.

    Raises:
        AuditError: the file does not exist or cannot be read.
        SyntaxError: the script does not compile.
    """
    if not name:
        raise AuditError("the name of the script is empty; give a file, such as train.py")
    path = Path(name)
    if path.is_dir():
        raise AuditError(f"script '{shortened(name)}' is a folder; give a file in it, or -m package.module")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise AuditError(f"script '{shortened(name)}' cannot be read: {error.strerror}") from None
    _import_first_from(path.resolve().parent, command)
    file = os.path.join(Path.cwd(), name)  # noqa: PTH118 - as Python does, which keeps `..`
    return Script(file, compile(source, file, "exec", dont_inherit=True))


def module(name: str, command: str) -> Script:
    """Return the script that `python -m` runs by this name; for a package, its `__main__`.

    Imports search the current folder first from now on. The packages above the module are imported.

    Raises:
        AuditError: the module does not exist, or this is the name of a file.
        SyntaxError: the module does not compile.
    """
    if not name:
        raise AuditError("the name of the module is empty; give one such as package.module")
    if name.endswith(".py") and Path(name).is_file():  # else Python would import, and so run, the module
        named = ".".join(Path(name).with_suffix("").parts)
        raise AuditError(f"'{shortened(name)}' is a file; leave out -m, or use -m {shortened(named)}")
    _import_first_from(Path.cwd(), command)
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise AuditError(f"module '{shortened(name)}' cannot be found: {error}") from None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise AuditError(f"module '{shortened(name)}' has no .py file here or among installed packages")
    source = Path(spec.origin).read_bytes()
    return Script(spec.origin, compile(source, spec.origin, "exec", dont_inherit=True), spec)


def _import_first_from(folder: Path, command: str) -> None:
    """Replace our own command's folder in sys.path with this one, unless Python runs with -P."""
    if sys.flags.safe_path:
        return
    ours = {"", str(Path.cwd()), str(Path(command).parent)}
    sys.path[0 : int(bool(sys.path) and sys.path[0] in ours)] = [str(folder)]


def own_paths(chosen: Script) -> list[str]:
    """Return the script's file, and the folder of its topmost package with code."""
    names = (chosen.spec.parent or "").split(".") if chosen.spec is not None else []
    packages = [sys.modules.get(".".join(names[: nth + 1])) for nth in range(len(names))]
    files = [each.__file__ for each in packages if each is not None and each.__file__]
    return [chosen.file, *(str(Path(file).parent) for file in files[:1] if names[0] != "torch")]  # not its launcher


def _become_main(chosen: Script) -> None:
    main = ModuleType("__main__")
    own = {"__file__": chosen.file, "__spec__": chosen.spec, "__builtins__": builtins, "__cached__": None}
    vars(main).update(own, __annotations__={}, __loader__=SourceFileLoader("__main__", chosen.file))
    if chosen.spec is not None:
        vars(main).update(__package__=chosen.spec.parent, __loader__=chosen.spec.loader, __cached__=chosen.spec.cached)
    sys.modules["__main__"] = main
    for path in own_paths(chosen):
        add_audited(path)


def run(name: str, args: Sequence[str], *, is_module: bool) -> int:
    """Run a file, or a module by its name, as `__main__`, and return the exit status that Python would return.

    Raises:
        AuditError: the script does not exist.
        KeyboardInterrupt: the script does not catch it, or it came while waiting for the script's threads.
    """
    sys.argv, (command, *_) = ["-m" if is_module else name, *args], sys.argv
    chosen, status = None, 0
    try:
        chosen = module(name, command) if is_module else script(name, command)
        _become_main(chosen)
        sys.argv = [chosen.file if is_module else name, *args]
        exec(chosen.code, vars(sys.modules["__main__"]))  # noqa: S102 - running the script is the purpose
    except KeyboardInterrupt:
        raise
    except SystemExit as end:  # from the script, or from a package above the module
        status = status_of(end)
    except BaseException as error:  # the same
        if chosen is None and isinstance(error, AuditError):
            raise
        show(error.with_traceback(None) if chosen is None and isinstance(error, SyntaxError) else error)
        status = 1
    _wait_for_threads()
    return status


def status_of(end: SystemExit) -> int:
    """Return the status of sys.exit(...); write a text to stderr, as Python does."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{end.code}\n")
        sys.stderr.flush()
    return 1


def show(error: BaseException) -> None:
    """Show an exception through sys.excepthook, which the script may have replaced, without our frames."""
    without_ours(error)
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except SystemExit:  # from the hook; the status stays the same
        return
    except BaseException as of_hook:  # Python shows both exceptions if the hook fails
        sys.__excepthook__(type(of_hook), of_hook, of_hook.__traceback__)
        sys.__excepthook__(type(error), error, error.__traceback__)


def without_ours(error: BaseException | None) -> None:
    """Remove our frames from the tracebacks of an exception and its causes."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = _rest(each.__traceback__)
        waiting += [each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or ())]


def _rest(trace: TracebackType | None) -> TracebackType | None:
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    for each in reversed(frames):
        if not is_ours(each.tb_frame.f_code.co_filename):
            trace = TracebackType(trace, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return trace


def _wait_for_threads() -> None:
    """Wait for the script's threads, as Python does at its end."""
    for each in threading.enumerate():
        if each is not threading.current_thread() and not each.daemon:
            each.join()
