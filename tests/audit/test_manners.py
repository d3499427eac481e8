"""What a script does under the audit is what it does without: its results, its `__main__`, arguments and streams."""

from __future__ import annotations

import gc
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradlab import audit
from gradlab.audit.patching import UNCOUNTED
from tests.audit.test_scripts import NEED, SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = str(Path(audit.__file__).parent)
OF_A_PROCESS = {*NEED, "right_ddp"}  # what they leave is not in their `__main__`


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in what a script leaves: of models and optimizers, in dicts and lists."""
    if isinstance(value, torch.Tensor):
        yield value
        if value.grad is not None:
            yield value.grad
    elif isinstance(value, torch.nn.Module):
        yield from tensors_in([*value.parameters(), *value.buffers()])
    elif isinstance(value, torch.optim.Optimizer):
        yield from tensors_in(value.state_dict())
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)


def left_by(name: str) -> list[torch.Tensor]:
    """Run a script and return all tensors that it leaves, and the state of the random numbers."""
    left = runpy.run_path(str(SCRIPTS[name]))
    return [*tensors_in({key: each for key, each in left.items() if key[:2] != "__"}), torch.get_rng_state()]


@pytest.mark.filterwarnings("ignore")  # of torch's compiler
@pytest.mark.xdist_group("audit scripts")  # the compiler is imported once
@pytest.mark.parametrize("name", sorted(SCRIPTS.keys() - OF_A_PROCESS))
def test_what_a_script_computes_is_bit_for_bit_what_it_computes_without(name: str) -> None:
    plain = left_by(name)
    with audit.watch(1):
        audited = left_by(name)
    assert len(plain) == len(audited)
    assert all(map(same_bits, plain, audited))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Say whether two tensors are equal to the last bit, a NaN too."""
    a, b = (each.to_dense() if each.layout != torch.strided else each.detach() for each in (a, b))
    return (a.dtype, a.shape, a.numpy().tobytes()) == (b.dtype, b.shape, b.numpy().tobytes())


def test_no_tensor_is_kept_of_those_that_are_measured() -> None:
    def alive_after(steps: int) -> int:
        model = torch.nn.Linear(1000, 10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            loss: Any = model(torch.ones(2, 1000)).square().mean()
            loss.backward()
            optimizer.step()
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    plain = alive_after(12)
    with audit.watch(1) as report:
        assert alive_after(12) == plain
    assert report.optimizers[0].keep is not None


@pytest.mark.filterwarnings("ignore")  # of torch's compiler
@pytest.mark.xdist_group("audit scripts")
def test_torch_compile_does_not_compile_what_listens() -> None:
    from torch._dynamo import convert_frame
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    with audit.watch(1) as report:
        runpy.run_path(str(SCRIPTS["right_compiled_step"]))
    codes = [code() for code in convert_frame.input_codes.seen]
    compiled = {code.co_filename for code in codes if code is not None}
    assert str(SCRIPTS["right_compiled_step"]) in compiled
    assert [file for file in compiled if file.startswith(OURS) or file == UNCOUNTED] == []
    assert any("begins" in reason for reason in counters["graph_break"])  # called where it is met, not traced
    assert report.optimizers[0].updates == 24


# As processes: what Python itself prints is compared with what it prints under the audit


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


def run(*command: str, told: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, input=told, timeout=120
    )


def test_a_script_prints_ends_and_fails_as_under_python_itself(folder: Path) -> None:
    (folder / "s.py").write_text(MAIN)
    own = ["s.py", "--json", "-m", "x", "--sample", "3"]
    plain, audited = run(*own, told="a line\n"), run("-m", "gradlab", "audit", *own, told="a line\n")
    assert audited.stdout == plain.stdout
    assert audited.returncode == plain.returncode == 1
    assert audited.stderr.startswith(plain.stderr)
    assert audited.stderr[len(plain.stderr) :].startswith("gradlab audit: nothing found")
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


def test_an_exit_at_the_end_of_which_something_is_printed_leaves_json_alone_on_stdout(folder: Path) -> None:
    (folder / "s.py").write_text(
        "import atexit, os, subprocess, sys\natexit.register(print, 'late')\n"
        "subprocess.run([sys.executable, '-c', 'print(\"child\")'])\nos.write(1, b'raw\\n')\nsys.exit()\n"
    )
    done = run("-m", "gradlab", "audit", "--json", "s.py")
    assert json.loads(done.stdout) == {"script": "s.py", "exit_status": 0, "optimizers": [], "findings": []}
    assert done.stderr.split() == ["child", "raw", "late"]
