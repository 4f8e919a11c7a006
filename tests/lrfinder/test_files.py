"""Saving loses no old file, and loading survives any: full disks, read-only folders, damaged and hostile JSON."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curves import make_curve

from hessian.codec import MOST_NESTED
from hessian.errors import BadArgument
from hessian.files import LARGEST
from lrfinder import load

CURVE = make_curve([2.0, 1.5, 1.0, 0.5])
SAVES: dict[str, Callable[[Path], Any]] = {
    "json": lambda folder: CURVE.save(folder / "lr.json"),
    "csv": lambda folder: CURVE.save(folder / "lr.csv"),
    "png": lambda folder: CURVE.save(folder / "lr.png"),
    "plot": lambda folder: CURVE.plot(folder / "lr.svg"),
}
NAMES = {"json": "lr.json", "csv": "lr.csv", "png": "lr.png", "plot": "lr.svg"}


class FullDisk:
    """A stream whose disk is full half-way."""

    def __init__(self, stream: Any, failure: BaseException) -> None:
        self.stream, self.failure = stream, failure

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()

    def write(self, content: bytes) -> None:
        self.stream.write(content[: len(content) // 2])
        self.stream.flush()
        raise self.failure


def fill_disk(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    fdopen = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *arguments: FullDisk(fdopen(*arguments), failure))


def failing(failure: BaseException) -> Callable[..., Any]:
    def fail(*arguments: Any, **more: Any) -> Any:
        raise failure

    return fail


@pytest.mark.parametrize("form", SAVES)
@pytest.mark.parametrize("old", [True, False], ids=["old file", "new file"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(form, old, tmp_path, monkeypatch):
    path = tmp_path / NAMES[form]
    if old:
        path.write_bytes(b"old")
    fill_disk(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match=r"could not be written \(No space left on device\): .*free some space") as caught:
        SAVES[form](tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ([path.name] if old else [])
    assert not old or path.read_bytes() == b"old"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*nowhere'; make it, or write to another place"):
        CURVE.save(tmp_path / "nowhere" / "curve.json")


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError(), SystemExit(1)], ids=lambda failure: type(failure).__name__)
def test_whatever_stops_a_save_it_leaves_the_old_file_and_nothing_else(failure, tmp_path, monkeypatch):
    path = tmp_path / "lr.json"
    path.write_bytes(b"old")
    fill_disk(monkeypatch, failure)
    with pytest.raises(type(failure)):
        CURVE.save(path)
    assert os.listdir(tmp_path) == ["lr.json"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_folder_that_takes_no_file_is_the_systems_error_in_one_sentence(code, tmp_path, monkeypatch):
    path = tmp_path / "lr.json"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "open", failing(OSError(code, os.strerror(code))))
    with pytest.raises(OSError, match=f"could not be written .{os.strerror(code)}") as caught:
        CURVE.save(path)
    assert (caught.value.errno, path.read_bytes(), os.listdir(tmp_path)) == (code, b"old", ["lr.json"])
    assert isinstance(caught.value, PermissionError) == (code == errno.EACCES)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into read-only folders; the case above stands for it")
def test_a_read_only_folder_is_refused(tmp_path):
    path = CURVE.save(tmp_path / "lr.json")
    before = path.read_bytes()
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="could not be written"):
            make_curve([1.0, 2.0]).save(path)
        assert path.read_bytes() == before
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_that_is_always_full_is_written_to_and_not_replaced(tmp_path):
    path = tmp_path / "lr.json"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        CURVE.save(path)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    assert path.is_symlink()


def test_nothing_is_renamed_before_it_is_on_the_disk(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *arguments, name=name, real=real: (calls.append(name), real(*arguments))[1])
    CURVE.save(tmp_path / "lr.json")
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_an_existing_file_keeps_its_permissions(mode, tmp_path):
    path = tmp_path / "lr.json"
    path.touch()
    path.chmod(mode)
    CURVE.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_goes_on_to_point_where_it_did(exists, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.json", tmp_path / "lr.json"
    if exists:
        real.write_text("old")
    link.symlink_to(Path("elsewhere", "real.json"))
    assert CURVE.save(link) == link
    assert link.is_symlink()
    assert load(real) == load(link) == CURVE
    assert os.listdir(tmp_path / "elsewhere") == ["real.json"]


def test_a_folder_a_long_name_and_no_name_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "lr.json").mkdir()
    with pytest.raises(IsADirectoryError, match="could not be written"):
        CURVE.save(tmp_path / "lr.json")
    with pytest.raises(OSError, match="File name too long"):
        CURVE.save(tmp_path / f"{'x' * 300}.json")
    with pytest.raises(BadArgument, match="cannot be the name of a file"):
        CURVE.save(tmp_path / "a\0b.json")
    CURVE.save(tmp_path / f"{'x' * 245}.json")  # as long as names get


# Loading ------------------------------------------------------------------------------------------------------------------------

TEXT = CURVE.to_json()


def swapped(old: str, new: str) -> bytes:
    assert old in TEXT
    return TEXT.replace(old, new, 1).encode()


METRIC = make_curve([2.0, 1.5], metric=[0.5, math.nan], metric_name="accuracy", scored_on="val_data")
GROUPS = make_curve([2.0], groups=(make_curve([2.0], [1e-7], group=1, group_name="head", ratio=0.1),), left_out=(0,))


@pytest.mark.parametrize("curve", [METRIC, GROUPS], ids=["metric", "groups"])
def test_metric_and_groups_come_back(curve, tmp_path):
    assert load(curve.save(tmp_path / "lr.json")) == curve


def test_the_table_has_a_column_for_the_metric(tmp_path):
    path = METRIC.save(tmp_path / "lr.csv")
    assert path.read_text() == "lr,loss,smooth,metric\n1e-06,2.0,2.0,0.5\n10.0,1.5,1.5,nan\n"
    assert CURVE.save(path).read_text().splitlines()[0] == "lr,loss,smooth"


SPOILED = {
    "a metric of another length": (METRIC, {"metric": [0.5]}, "metric holds 1 values, not one for each of 2 steps"),
    "scored on something else": (METRIC, {"scored_on": "test_data"}, "'test_data' is none of batch, val_data"),
    "no ratio": (METRIC, {"ratio": 0.0}, "not above 0, at most 1"),
    "groups that are none": (GROUPS, {"groups": [CURVE.to_dict()]}, "groups are not the sweeps of single groups"),
    "groups within groups": (GROUPS, {"groups": [{**GROUPS.to_dict(), "group": 1}]}, "groups are not the sweeps of single groups"),
    "another result as a group": (GROUPS, {"groups": [{"kind": "stable_lr", "schema": 1}]}, "its kind is 'stable_lr'"),
    "groups nested deeply": (GROUPS, {"groups": [[[[]]]]}, "is of the wrong type"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_metric_or_group_is_refused_in_one_sentence(name, tmp_path):
    curve, changes, words = SPOILED[name]
    path = tmp_path / "lr.json"
    path.write_text(json.dumps({**curve.to_dict(), **changes}))
    with pytest.raises(BadArgument) as caught:
        load(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


DEEP = sys.version_info >= (3, 13)  # Python's own reader goes as deep as ours allows
HOSTILE = {
    "deeply nested lists": (b"[" * 9000 + b"]" * 9000, "it holds a list, not an object" if DEEP else "recursion"),
    "deeply nested objects": (b'{"a":' * 9000 + b"1" + b"}" * 9000, "its kind is None" if DEEP else "recursion"),
    "many empty lists": (b"[" + b"[]," * MOST_NESTED + b"[]]", f"at most {MOST_NESTED:,} are read"),
    "a number too large": (swapped("0.5", "1e999"), "the number 1e999 is too large"),
    "a million digits": (swapped("0.5", "9" * 1_000_000), "is too large"),
    "5000 digits in a whole number": (swapped('"seed": 0', '"seed": ' + "9" * 5000), "is too large"),
    "20 digits in a whole number": (swapped('"seed": 0', '"seed": ' + "9" * 20), "is too large"),
    "a negative seed": (swapped('"seed": 0', '"seed": -1'), "is not at least 0"),
    "NaN": (swapped("0.5", "NaN"), "NaN is no JSON"),
    "Infinity": (swapped("0.5", "-Infinity"), "-Infinity is no JSON"),
    "NaN as another text": (swapped("0.5", '"NaN"'), "none of nan, inf, -inf"),
    "a key twice": (swapped('"seed": 0', '"seed": 0, "seed": 1'), "the key 'seed' stands there twice"),
    "UTF-16": (TEXT.encode("utf-16"), "can't decode"),
    "Latin-1": (swapped("Net", "N\xe9t").decode().encode("latin-1"), "can't decode"),
    "half a surrogate pair": (swapped("Net", "\\ud800"), "surrogates not allowed"),
    "NUL bytes": (b"\0" * 1000, "Expecting value"),
    "a pickle": (b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.", "can't decode"),
    "code": (b"__import__('os').system('true')", "Expecting value"),
    "empty": (b"", "Expecting value"),
    "only a mark": (b"\xef\xbb\xbf", "Expecting value"),
    "text after the end": (TEXT.encode() + b"{}", "Extra data"),
    "a list": (b"[]", "it holds a list, not an object"),
    "a future schema": (swapped('"schema": 1', '"schema": 2'), "its schema is 2, and this version reads 1"),
    "no schema": (swapped('"schema": 1', '"schema": null'), "its schema is None"),
    "a flag as schema": (swapped('"schema": 1', '"schema": true'), "its schema is True"),
    "an unknown kind": (swapped('"lr_curve"', '"' + "x" * 10_000 + '"'), "its kind is 'xxx"),
    "a base class": (swapped('"lr_curve"', '"Result"'), "its kind is 'Result'"),
    "a long unknown field": (swapped('"seed": 0', '"seed": 0, "' + "y" * 10_000 + '": 0'), "unknown field 'yyy"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_sentence(name, tmp_path):
    content, words = HOSTILE[name]
    path = tmp_path / "lr.json"
    path.write_bytes(content)
    with pytest.raises(BadArgument) as caught:
        load(path)
    said = str(caught.value)
    assert said.startswith(f"{str(path)!r} is not a saved result: ")
    assert words in said
    assert "\n" not in said
    assert len(said) < 300 + len(str(path))


def test_a_byte_order_mark_as_editors_write_it_is_no_harm(tmp_path):
    path = tmp_path / "lr.json"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert load(path) == CURVE


def test_a_huge_file_is_refused_by_its_size(tmp_path):
    path = tmp_path / "lr.json"
    with path.open("wb") as stream:
        stream.truncate(2 * LARGEST)  # a hole, which takes no space
    with pytest.raises(BadArgument, match="it holds 134,217,728 bytes, and at most 67,108,864 are read"):
        load(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_file_without_an_end_is_refused():
    with pytest.raises(BadArgument, match="at most 67,108,864 are read"):
        load("/dev/zero")


def test_a_file_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json, "loads", failing(MemoryError()))
    with pytest.raises(BadArgument, match="it does not fit into memory"):
        load(CURVE.save(tmp_path / "lr.json"))


def test_a_folder_is_the_systems_error(tmp_path):
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(BadArgument, match="null byte"):
        load("a\0b.json")


def test_a_million_points_can_be_saved_and_read(tmp_path):
    curve = make_curve(np.random.default_rng(0).normal(size=1_000_000))
    path = curve.save(tmp_path / "lr.json")
    assert path.stat().st_size < LARGEST
    assert load(path).losses[-1] == curve.losses[-1]
