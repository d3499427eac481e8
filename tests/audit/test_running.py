"""A script under the audit runs as under Python: same `__main__`, arguments, streams, traceback and status."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from gradlab.cli import app
from tests.audit.training import NEVER_CLEARING

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("_main_restored")

MAIN = """
import argparse, atexit, dataclasses, multiprocessing, os, pickle, sys
from pathlib import Path

@dataclasses.dataclass
class Point:
    x: int

def double(point):
    return Point(2 * point.x)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-m"), parser.add_argument("--json", action="store_true"), parser.add_argument("--sample")
    print(parser.parse_args(), parser.prog, sys.argv)
    print(__file__, __name__, __spec__, __package__, __builtins__, sys.path[0], sorted(globals()))
    print(pickle.loads(pickle.dumps(Point(3))), Point.__module__, sys.modules["__main__"].Point is Point)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [Point(1), Point(2)]))
    print(sys.stdin.read().upper(), input.__name__)
    os.chdir("/")
    print(Path(__file__).is_file(), flush=True)
    atexit.register(print, "at the end")
    atexit.register(os.write, 1, b"near the end\\n")
    def fails():
        raise LookupError("what is wrong")
    try:
        fails()
    except LookupError as error:
        raise ValueError("why") from error
"""


# As processes: the output of Python alone equals that under the audit


def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, input=stdin, timeout=120
    )


def test_a_script_prints_ends_and_fails_as_under_python_itself(folder: Path) -> None:
    (folder / "s.py").write_text(MAIN)
    own = ["s.py", "--json", "-m", "x", "--sample", "3"]
    plain, audited = run(*own, stdin="a line\n"), run("-m", "gradlab", "audit", *own, stdin="a line\n")
    assert audited.stdout == plain.stdout
    assert audited.returncode == plain.returncode == 1
    assert audited.stderr.startswith(plain.stderr)
    assert audited.stderr[len(plain.stderr) :].startswith("gradlab audit: nothing audited")
    assert "at the end" in plain.stdout


def test_a_module_of_a_package_runs_as_under_python_itself(folder: Path) -> None:
    (folder / "pack" / "inner").mkdir(parents=True)
    (folder / "pack" / "__init__.py").write_text("print('pack', __name__)")
    (folder / "pack" / "inner" / "__init__.py").write_text("")
    (folder / "pack" / "other.py").write_text("word = 'relative'")
    (folder / "pack" / "inner" / "train.py").write_text(
        "import sys\nfrom ..other import word\nfrom . import __name__ as above\n"
        "print(word, above, __name__, __package__, __spec__.name, __file__, sys.argv, sys.path[0])\nsys.exit(3)\n"
    )
    own = ["-m", "pack.inner.train", "-m", "--json", "--help"]
    plain, audited = run(*own), run("-m", "gradlab", "audit", *own)
    assert (audited.stdout, audited.returncode) == (plain.stdout, plain.returncode)
    assert "relative pack.inner __main__" in plain.stdout
    assert plain.returncode == 3


# In this process


@pytest.mark.parametrize("flag", ["-m", "--module"])
def test_a_module_runs_by_its_name_and_exit_zero_forgives(folder: Path, flag: str) -> None:
    (folder / "mine_to_audit").mkdir()
    (folder / "mine_to_audit" / "__main__.py").write_text(NEVER_CLEARING + "print(__package__, __spec__.name)")
    done = CliRunner().invoke(app, ["audit", "--exit-zero", flag, "mine_to_audit", "--help"])
    assert done.exit_code == 0
    assert done.stdout.split()[0] == "__main__"
    assert done.stdout.endswith(f"['--help'] {folder.name}\nmine_to_audit mine_to_audit.__main__\n")
    assert "never-cleared" in done.stderr


@pytest.mark.parametrize(("source", "shown"), [("1 +", "SyntaxError"), ("\0", "")], ids=["syntax", "null byte"])
def test_a_script_that_does_not_compile_ends_as_python_ends(folder: Path, source: str, shown: str) -> None:
    (folder / "s.py").write_text(source)
    done = CliRunner().invoke(app, ["audit", "s.py"])
    assert done.exit_code == 1
    assert shown in done.stderr
    assert "gradlab/" not in done.stderr


def test_a_traceback_is_that_of_the_script_alone(folder: Path) -> None:
    (folder / "s.py").write_text(
        NEVER_CLEARING + "class Bad(torch.optim.SGD):\n    def __init__(self):\n        1 / 0\nBad()\n"
    )
    done = CliRunner().invoke(app, ["audit", "s.py"])
    shown = done.stderr.partition("gradlab audit")[0]
    assert [line.split(",")[0] for line in shown.splitlines() if "File" in line] == [f'  File "{folder / "s.py"}"'] * 2


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("import sys; sys.exit('no such device')", 1, ["no such device"]),
        ("import sys; sys.exit(3)", 3, []),
        ("raise KeyboardInterrupt", 130, ["KeyboardInterrupt"]),
    ],
)
def test_an_exit_of_a_package_above_the_module_is_the_scripts(
    folder: Path, line: str, status: int, said: list[str]
) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text(line)
    (folder / "package" / "train.py").write_text("")
    done = CliRunner().invoke(app, ["audit", "--json", "-m", "package.train"])
    assert (json.loads(done.stdout)["exit_status"], done.exit_code) == (status, status)
    assert done.stderr.splitlines()[-1:] == said
    assert ("Traceback" in done.stderr) is (status == 130)
