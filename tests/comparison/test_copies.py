"""Copies of a script's folder: what they have, what they leave out, and when they are refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gradlab.comparison import copies
from gradlab.comparison.copies import Source
from gradlab.errors import CompareError


def write(name: str, content: str = "x") -> Path:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def source(folder: str = "project", script: str = "project/train.py") -> Source:
    return Source(Path(folder), Path("project/out"), Path(script))


def copied(script: str = "project/train.py") -> list[str]:
    source(script=script).copy_to(Path("copy"))
    return sorted(str(each.relative_to("copy")) for each in Path("copy").rglob("*"))


def test_a_copy_has_files_folders_and_times() -> None:
    os.utime(write("project/data/a.csv", "1,2"), (1000, 1000))
    write("project/run.sh").chmod(0o755)
    Path("project/empty").mkdir()
    assert copied() == ["data", "data/a.csv", "empty", "run.sh"]
    assert Path("copy/data/a.csv").read_text() == "1,2"
    assert Path("copy/data/a.csv").stat().st_mtime == 1000
    assert os.access("copy/run.sh", os.X_OK)


def test_a_copy_is_independent() -> None:
    write("project/best.pt", "before")
    copied()
    write("copy/best.pt", "after")
    assert Path("project/best.pt").read_text() == "before"


@pytest.mark.parametrize(
    "left_out",
    [
        ".git/HEAD",
        "__pycache__/a.pyc",
        "env/pyvenv.cfg",
        "out/anything",
        "runs/train/zero_grad-seed1-0/run.json",
        "deep/results/train/zero_grad-seed1-0/run.json",
        "grids/digits/sweep-0/sweep.json",
    ],
)
def test_a_copy_leaves_out(left_out: str) -> None:
    file = write(f"project/{left_out}")
    if file.name == "run.json":
        file.with_name("metrics.jsonl").touch()
    if file.name == "sweep.json":
        file.with_name("results.jsonl").touch()
    write("project/train.py")
    assert [each for each in copied() if each != "deep"] == ["train.py"]


def test_a_run_json_of_another_tool_is_copied() -> None:
    write("project/results/a/run.json")
    assert "results/a/run.json" in copied()


def test_links_within_the_folder_stay_within_the_copy() -> None:
    write("project/data/a.csv", "inside")
    write("outside.csv", "outside")
    Path("project/inside.csv").symlink_to("data/a.csv")
    Path("project/outside.csv").symlink_to("../outside.csv")
    Path("project/folder").symlink_to("data")
    Path("project/broken").symlink_to("nothing")
    os.mkfifo("project/pipe")
    assert copied() == ["broken", "data", "data/a.csv", "folder", "inside.csv", "outside.csv"]
    write("copy/data/a.csv", "changed")
    assert Path("copy/inside.csv").read_text() == Path("copy/folder/a.csv").read_text() == "changed"
    assert Path("copy/outside.csv").read_text() == "outside"


@pytest.mark.parametrize("script", ["out/train.py", "lab/train.py", ".tox/train.py"])
def test_folders_above_the_script_are_copied(script: str) -> None:
    write(f"project/{script}")
    folder = Path(script).parent
    write(f"project/{folder}/train/zero_grad-seed1-0/run.json").with_name("metrics.jsonl").touch()
    write(f"project/{folder}/grid/sweep.json").with_name("results.jsonl").touch()
    assert copied(f"project/{script}") == [str(folder), script]


def test_a_package_in_which_runs_were_written_is_copied() -> None:
    write("project/lib/data.py")
    write("project/lib/train/zero_grad-seed1-0/run.json").with_name("metrics.jsonl").touch()
    write("project/lib/grid/sweep.json").with_name("results.jsonl").touch()
    assert copied() == ["lib", "lib/data.py"]


def test_absolute_links_within_the_folder_stay_in_the_copy(folder: Path) -> None:
    write("project/real/best.pt", "before")
    (folder / "alias").symlink_to(folder / "project")
    (folder / "back").symlink_to(folder / "project/real")
    for name, target in {"one": "project/real", "two": "alias/real", "three": "back"}.items():
        Path("project", name).symlink_to(folder / target)
    Path("project/real/up").symlink_to(folder / "project")
    copied()
    for name in ("one", "two", "three", "real/up/real"):
        assert (folder / "copy" / name / "best.pt").resolve() == folder / "copy/real/best.pt"


def test_links_to_writable_folders_outside_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: path.name != "read_only")
    for name in ("elsewhere", "project/deep/inside"):
        Path(name).mkdir(parents=True)
    write("file")
    Path("project/deep/shared").symlink_to(folder / "elsewhere")
    Path("project/inside").symlink_to(folder / "project/deep/inside")
    Path("project/file").symlink_to(folder / "file")
    Path("project/read_only").symlink_to(folder / "elsewhere")
    assert source().links_outside() == ["deep/shared"]


def test_a_large_folder_is_refused_by_its_largest_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "LARGEST", 5000)
    for nth in range(1, 6):
        write(f"project/data{nth}.bin", "x" * 1000 * nth)
    with pytest.raises(CompareError) as caught:
        source().check_size(1)
    assert "project has 15.0 kB, too much to copy" in str(caught.value)
    assert ": data5.bin (5.0 kB), data4.bin (4.0 kB), data3.bin (3.0 kB). Move large files" in str(caught.value)


def test_the_limit_is_two_gigabytes() -> None:
    file = write("project/data.bin")
    os.truncate(file, 2 * 10**9)
    source().check_size(0)
    os.truncate(file, 2 * 10**9 + 1)
    with pytest.raises(CompareError, match=r"has 2\.0 GB, too much to copy"):
        source().check_size(0)


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MOST_FILES", 3)
    for nth in range(4):
        write(f"project/{nth}")
    with pytest.raises(CompareError, match="has more than 3 files"):
        source().check_size(1)


def test_a_full_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    write("project/data.bin", "x" * 600)

    def usage(_: Any) -> Any:
        return SimpleNamespace(free=1000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    source().check_size(1)
    with pytest.raises(CompareError, match=r"has 1.0 kB of free space, but copies .* need 1.2 kB. Set TMPDIR"):
        source().check_size(2)


def test_an_unreadable_file_is_named() -> None:
    write("project/secret").chmod(0)
    if os.access("project/secret", os.R_OK):
        pytest.skip("this user may read any file")
    with pytest.raises(CompareError, match=r"the folder project cannot be copied: .*project/secret"):
        copied()


def test_a_fingerprint_shows_what_changed() -> None:
    write("project/a")
    write("project/out/b")
    before = source().fingerprint()
    assert list(before) == ["a"]
    write("project/out/b", "longer")
    assert source().fingerprint() == before
    write("project/a", "longer")
    assert source().fingerprint() != before
