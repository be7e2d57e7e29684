"""A file appears complete or not at all, and is read only as it was written."""

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lmstages.core import artifacts, files
from lmstages.core.errors import UserError
from lmstages.core.system_errors import not_written, out_of_memory

MADE = {"command": "test"}
HEADER = 128  # bytes that an .npy file of one dimension begins with


@pytest.fixture
def old(tmp_path):
    """A file with old content, which must outlive what goes wrong later."""
    path = tmp_path / "file.bin"
    artifacts.save_bytes(path, b"old", MADE)
    return path


def refusal(action, *arguments):
    with pytest.raises(UserError) as raised:
        action(*arguments)
    return str(raised.value)


def in_another_process(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# Complete or not at all


def test_a_writer_that_raises_leaves_the_old_file_and_no_other(old):
    before = sorted(os.listdir(old.parent))
    with pytest.raises(RuntimeError), artifacts.saving(old, MADE) as file:
        file.write(b"half of the ne")
        raise RuntimeError
    assert artifacts.verified(old).read_bytes() == b"old" and sorted(os.listdir(old.parent)) == before


def test_records_lie_in_a_hidden_folder_out_of_the_way(old):
    assert sorted(os.listdir(old.parent)) == [".made", "file.bin"]
    assert os.listdir(old.parent / ".made") == ["file.bin.json"]


def test_nothing_has_the_name_before_the_block_ends(tmp_path):
    path = tmp_path / "new.bin"
    with artifacts.saving(path, MADE) as file:
        file.write(b"x")
        assert not path.exists() and not artifacts.sidecar(path).exists()
    assert artifacts.verified(path).read_bytes() == b"x"


KILLED = """
import os, signal, sys
from pathlib import Path
from lmstages.core import artifacts
with artifacts.saving(Path(sys.argv[1]), {}) as file:
    file.write(bytes(1 << 20))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_while_writing_leaves_the_old_file(old):
    assert in_another_process(KILLED, old).returncode == -signal.SIGKILL
    assert artifacts.verified(old).read_bytes() == b"old"


KILLED_BETWEEN = """
import os, signal, sys
from pathlib import Path
from lmstages.core import artifacts
rename, done = os.replace, []
def replace(*paths):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(rename(*paths))
os.replace = replace
artifacts.save_bytes(Path(sys.argv[1]), b"new", {})
"""


def test_a_kill_between_the_record_and_the_file_is_detected(old):
    assert in_another_process(KILLED_BETWEEN, old).returncode == -signal.SIGKILL
    assert old.read_bytes() == b"old" and "its sha256 is" in refusal(artifacts.verified, old)


FULL = """
import resource, sys
from pathlib import Path
from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.core.system_errors import not_written, out_of_memory
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    artifacts.save_bytes(Path(sys.argv[1]), bytes(1 << 20), {})
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_one_error_with_path_and_free_bytes(old):
    done = in_another_process(FULL, old)
    assert done.stdout.startswith(f"{old}: no space left to write it (") and "bytes free)" in done.stdout
    assert done.stdout.count("\n") == 1 and not done.stderr
    assert artifacts.verified(old).read_bytes() == b"old" and len(os.listdir(old.parent)) == 2


def test_a_full_disk_is_one_error_where_the_folder_is_not_made_yet(tmp_path):
    error = not_written(tmp_path / "a" / "b" / "file", OSError(28, "No space left on device"))
    assert isinstance(error, UserError) and "no space left" in str(error)


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "a" / "b"):
        message = refusal(artifacts.save_bytes, path, b"", MADE)
        assert message == f"{path}: cannot be written (its folder is a file); give a path that lies in a folder"


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    message = refusal(artifacts.save_bytes, tmp_path, b"", MADE)
    assert message.startswith(f"{tmp_path}: cannot be written (Is a directory)")


def test_a_name_too_long_for_the_disk_is_refused(tmp_path):
    assert "File name too long" in refusal(artifacts.save_bytes, tmp_path / ("x" * 300), b"", MADE)


def test_a_read_only_folder_is_refused(bound_folder):
    folder = bound_folder / "shut"
    folder.mkdir(mode=0o555)
    message = refusal(artifacts.save_bytes, folder / "file", b"", MADE)
    assert "cannot be written (" in message and message.endswith("make its folder writable, or give another path")


# What the system refuses

ERRORS = sorted(set(errno.errorcode) - {errno.EPIPE})  # a pipe's own, which is no error of a file
REFUSING = ("write", "flush", "fsync", "replace", "fsync of the folder", "replace of the record")


def refuse(number):
    def call(*_):
        raise OSError(number, os.strerror(number))

    return call


def break_disk(patch, call, number):
    """From now on one call of the system fails with one error."""
    if call == "fsync of the folder":
        patch.setattr(artifacts, "sync_folder", refuse(number))
    elif call == "replace of the record":
        patch.setattr(artifacts.os, "replace", refuse(number))
    elif call == "replace":
        replace, calls = os.replace, []

        def second_fails(*paths):
            calls.append(paths)
            refuse(number)() if len(calls) == 2 else replace(*paths)

        patch.setattr(artifacts.os, "replace", second_fails)
    elif call == "fsync":
        patch.setattr(artifacts.os, "fsync", refuse(number))
    else:
        patch.setattr(artifacts, "flush" if call == "flush" else "to_json", refuse(number))


@pytest.mark.parametrize("call", REFUSING)
def test_every_error_of_the_system_at_every_write_is_one_line_with_path_and_remedy(old, call, monkeypatch):
    for number in ERRORS:
        with monkeypatch.context() as patch:
            break_disk(patch, call, number)
            message = refusal(artifacts.save_bytes, old, b"new", MADE)
        assert message.startswith((f"{old}: ", f"{artifacts.sidecar(old)}: ")) and "\n" not in message
        assert "cannot be written (" in message or "no space left to write it (" in message
        assert message.count(";") >= 1 and not message.endswith("; ")
        assert artifacts.verified(old).read_bytes() in (b"old", b"new"), "file and record belong together"
        assert os.listdir(old.parent / ".made") == ["file.bin.json"] and len(os.listdir(old.parent)) == 2


def test_a_disk_error_names_the_reason_and_what_to_do(old, monkeypatch):
    break_disk(monkeypatch, "replace", errno.EIO)
    remedy = "check the disk and its mount (df, dmesg), then start again"
    message = refusal(artifacts.save_bytes, old, b"new", MADE)
    assert message == f"{old}: cannot be written (Input/output error); {remedy}"


def test_a_rename_that_fails_leaves_the_old_file_with_its_old_record(old, monkeypatch):
    before = artifacts.made_of(old)
    break_disk(monkeypatch, "replace", errno.EIO)
    refusal(artifacts.save_bytes, old, b"new", {"command": "newer"})
    assert artifacts.verified(old).read_bytes() == b"old" and artifacts.made_of(old) == before


def test_a_rename_that_fails_leaves_no_record_of_a_file_that_is_not_there(tmp_path, monkeypatch):
    break_disk(monkeypatch, "replace", errno.EIO)
    refusal(artifacts.save_bytes, tmp_path / "new.bin", b"new", MADE)
    assert os.listdir(tmp_path) == [".made"] and os.listdir(tmp_path / ".made") == []


def test_an_interrupt_between_both_renames_leaves_a_pair_that_belongs_together(old, monkeypatch):
    replace, calls = os.replace, []

    def interrupted(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(artifacts.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        artifacts.save_bytes(old, b"new", MADE)
    assert artifacts.verified(old).read_bytes() == b"old"


def test_a_buffered_write_that_fails_at_the_end_is_the_same_error(tmp_path):
    """Fewer bytes than the buffer reach the disk when the file is closed, where Python tries again."""
    script = """
import resource, sys
from pathlib import Path
from lmstages.core import artifacts
from lmstages.core.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
try:
    artifacts.save_bytes(Path(sys.argv[1]), b"ten bytes.", {})
except UserError as error:
    print(error)
"""
    done = in_another_process(script, tmp_path / "file")
    assert done.stdout.startswith(f"{tmp_path}/file: no space left to write it (") and not done.stderr


READERS = {
    "made_of": artifacts.made_of,
    "verified": artifacts.verified,
    "sha256_of": files.sha256_of,
    "load_json": artifacts.load_json,
    "load_arrays": artifacts.load_arrays,
    "load_array": artifacts.load_array,
}


@pytest.mark.parametrize("reader", READERS)
def test_every_error_of_the_system_at_every_read_is_one_line_with_path_and_remedy(old, reader, monkeypatch):
    for number in ERRORS:
        with monkeypatch.context() as patch:
            patch.setattr(files, "sha256_of_open", refuse(number))
            patch.setattr(Path, "is_file", refuse(number))
            message = refusal(READERS[reader], old)
        assert message.startswith(f"{old}: cannot be read (") and "\n" not in message and ";" in message


def test_a_file_that_may_not_be_read_says_so_and_not_that_it_should_be_deleted(bound_folder):
    path = bound_folder / "file"
    artifacts.save_bytes(path, b"x", MADE)
    artifacts.sidecar(path).chmod(0)
    remedy = "make it readable, or give another path"
    assert (
        refusal(artifacts.verified, path) == f"{artifacts.sidecar(path)}: cannot be read (Permission denied); {remedy}"
    )


def test_an_error_without_a_number_is_none_of_the_systems(tmp_path):
    with pytest.raises(OSError, match="from a library"), artifacts.saving(tmp_path / "x", MADE):
        raise OSError("from a library")


def test_an_input_that_fails_while_an_output_is_written_is_not_taken_for_it(tmp_path):
    with pytest.raises(FileNotFoundError), artifacts.saving(tmp_path / "x", MADE):
        (tmp_path / "none").read_bytes()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_whose_folders_cannot_be_synced_is_good_enough(tmp_path, number, monkeypatch):
    fsync = os.fsync

    def not_of_folders(handle):
        refuse(number)() if os.path.isdir(f"/proc/self/fd/{handle}") else fsync(handle)

    monkeypatch.setattr(artifacts.os, "fsync", not_of_folders)
    artifacts.save_bytes(tmp_path / "x", b"x", MADE)
    assert artifacts.verified(tmp_path / "x").read_bytes() == b"x"


@pytest.mark.parametrize("where", ["(cannot be read)", "file"])
def test_memory_that_is_not_there_is_one_line(where):
    import torch

    problem = refusal(allocate, lambda: np.zeros(1 << 50), where)
    assert problem.startswith(f"{where}: not enough memory: 8.00 PiB at once are wanted; lower what is large")
    problem = refusal(allocate, lambda: torch.zeros(1 << 50), where)
    assert problem.startswith(f"{where}: not enough memory: 4503599627370496 bytes at once are wanted; lower")
    for action in (
        lambda: bytearray(1 << 62),
        lambda: torch.zeros(1 << 40, 1 << 40),
        lambda: np.zeros((1 << 40, 1 << 40)),
    ):
        assert refusal(allocate, action, where).startswith(f"{where}: not enough memory; lower what is large")


def allocate(action, where):
    try:
        action()
    except Exception as error:
        raise out_of_memory(where, error) or error from error


def test_what_is_no_lack_of_memory_is_not_called_one():
    assert out_of_memory("x", RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert out_of_memory("x", KeyError("out of memory")) is None


# Under a name that nobody can foresee


def test_a_link_at_the_name_of_a_temporary_file_is_not_followed(old, monkeypatch):
    victim = old.with_name("victim")
    victim.write_bytes(b"untouched")
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "foreseen")
    old.with_name(f".file.bin.{os.getpid()}.foreseen.partial").symlink_to(victim)
    message = refusal(artifacts.save_bytes, old, b"new", MADE)
    assert "cannot be written (" in message and victim.read_bytes() == b"untouched"
    assert artifacts.verified(old).read_bytes() == b"old" and not old.is_symlink()


def test_names_of_temporary_files_differ(tmp_path):
    names = set()
    for _ in range(20):
        with artifacts.saving(tmp_path / "x", MADE) as file:
            names.add(file.name)
    assert len(names) == 20


def test_a_link_at_the_output_is_replaced_and_its_target_kept(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / "x").symlink_to(victim)
    artifacts.save_bytes(tmp_path / "x", b"new", MADE)
    assert victim.read_bytes() == b"untouched" and (tmp_path / "x").read_bytes() == b"new"
    assert not (tmp_path / "x").is_symlink()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_of_a_file_is_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        artifacts.save_bytes(tmp_path / "x", b"", MADE)
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "x", artifacts.sidecar(tmp_path / "x"))] == [
        oct(mode)
    ] * 2


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(old):
    in_another_process(KILLED, old)
    [left] = old.parent.glob(".*.partial")
    living = old.with_name(f".file.bin.{os.getpid()}.0123.partial")
    living.write_bytes(b"")
    artifacts.save_bytes(old, b"new", MADE)
    assert living.exists() and not left.exists()


# Read only as written


def test_every_flipped_bit_is_detected(old):
    content = old.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        old.write_bytes(flipped)
        assert f"{old}: its sha256 is" in refusal(artifacts.verified, old)


@pytest.mark.parametrize("content", [b"", b"ol", b"old "])
def test_a_file_of_another_length_is_refused(old, content):
    old.write_bytes(content)
    message = refusal(artifacts.verified, old)
    assert message.startswith(f"{old}: ") and message.endswith(f"delete it and run snakemake again: rm {old}")


def test_the_remedy_is_a_command_that_works(tmp_path):
    path = tmp_path / "a b;c" / "it's.bin"
    artifacts.save_bytes(path, b"old", MADE)
    path.write_bytes(b"new")
    message = refusal(artifacts.verified, path)
    subprocess.run(shlex.split(message.rpartition("again: ")[2]), check=True)
    assert not path.exists() and "no such file; run snakemake to make it" in refusal(artifacts.verified, path)


@pytest.mark.parametrize("torn", [None, b"", b'{"sha256": "00', b"[]", b"{}", b'{"sha256": 3, "made": {}}', b"\xff"])
def test_a_missing_or_torn_record_is_refused(old, torn):
    artifacts.sidecar(old).unlink() if torn is None else artifacts.sidecar(old).write_bytes(torn)
    message = refusal(artifacts.verified, old)
    assert message.startswith(f"{artifacts.sidecar(old)}: missing or unreadable") and f"rm {old}" in message


def test_a_missing_file_is_an_error_before_its_missing_record(tmp_path):
    path = tmp_path / "none"
    assert refusal(artifacts.verified, path) == f"{path}: no such file; run snakemake to make it"


def test_the_record_says_what_made_the_file(old):
    record = artifacts.made_of(old)
    assert record["made"] == MADE and record["bytes"] == 3 and len(record["sha256"]) == 64


# What is written comes back


def test_json_comes_back(tmp_path):
    content = {"b": [1, 2.5, None, True], "a": "naïve \u2028 \x7f 語"}
    artifacts.save_json(tmp_path / "x.json", content, MADE)
    assert artifacts.load_json(tmp_path / "x.json") == content


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_nan(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.save_json(tmp_path / "x.json", {"loss": value}, MADE)
    assert (
        os.listdir(tmp_path) == [] and artifacts.finite_or_none(value) is None and artifacts.finite_or_none(0.5) == 0.5
    )


ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scalar": np.array(3, dtype=np.int64),
    "empty": np.empty((0, 4), dtype=np.int32),
    "flags": np.array([True, False]),
}


def test_arrays_and_metadata_come_back(tmp_path):
    artifacts.save_arrays(tmp_path / "x.safetensors", ARRAYS, {"k": "v", "语": "\n"}, MADE)
    arrays, metadata = artifacts.load_arrays(tmp_path / "x.safetensors")
    assert metadata == {"k": "v", "语": "\n"} and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(arrays[name], array) and arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape


def test_no_arrays_come_back_as_none(tmp_path):
    artifacts.save_arrays(tmp_path / "x.safetensors", {}, {"failed": "why"}, MADE)
    assert artifacts.load_arrays(tmp_path / "x.safetensors") == ({}, {"failed": "why"})


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\x02" + bytes(7) + b"{}"])
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    artifacts.save_bytes(tmp_path / "x.safetensors", content, MADE)
    message = refusal(artifacts.load_arrays, tmp_path / "x.safetensors")
    assert message.startswith(f"{tmp_path}/x.safetensors: no safetensors file of lmstages; delete it")


def test_equal_content_is_equal_bytes(tmp_path):
    metadata = {letter: letter for letter in "zyxwvutsrq"}
    for n in range(5):
        artifacts.save_arrays(tmp_path / f"{n}", ARRAYS, dict(reversed(metadata.items()) if n % 2 else metadata), MADE)
    assert len({(tmp_path / f"{n}").read_bytes() for n in range(5)}) == 1
    assert len({artifacts.sidecar(tmp_path / f"{n}").read_bytes() for n in range(5)}) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
@pytest.mark.parametrize("lengths", [[], [0], [3], [1, 0, 1000, 7]])
def test_a_growing_array_comes_back(tmp_path, dtype, lengths):
    pieces = [np.random.default_rng(n).integers(0, 200, length) for n, length in enumerate(lengths)]
    with artifacts.saving_array(tmp_path / "x.npy", np.dtype(dtype), MADE) as array:
        for piece in pieces:
            array.append(piece)
    loaded = artifacts.load_array(tmp_path / "x.npy")
    assert loaded.tolist() == np.concatenate([np.empty(0), *pieces]).tolist() and loaded.dtype == dtype
    assert (tmp_path / "x.npy").stat().st_size == HEADER + loaded.nbytes


def test_an_array_is_mapped_and_cannot_be_changed(tmp_path):
    with artifacts.saving_array(tmp_path / "x.npy", np.dtype(np.uint8), MADE) as array:
        array.append(np.arange(5))
    loaded = artifacts.load_array(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="read-only"):
        loaded[0] = 1
    assert isinstance(loaded, np.memmap)


@pytest.mark.parametrize("values", [[256], [-1]])
def test_a_value_that_does_not_fit_never_wraps(tmp_path, values):
    with (
        pytest.raises(AssertionError, match="values fit"),
        artifacts.saving_array(tmp_path / "x.npy", np.dtype(np.uint8), MADE) as array,
    ):
        array.append(np.array(values))
    assert os.listdir(tmp_path) == []


def test_json_is_canonical():
    assert artifacts.to_json({"b": 1, "a": 2}) == artifacts.to_json({"a": 2, "b": 1}) == b'{\n "a": 2,\n "b": 1\n}\n'
    assert json.loads(artifacts.to_json({"a": "é"})) == {"a": "é"}


def test_a_scratch_file_is_gone_at_the_end(tmp_path):
    with files.scratch(tmp_path / "new") as file:
        file.write(b"x")
        assert len(os.listdir(tmp_path / "new")) == 1
    assert os.listdir(tmp_path / "new") == []


SCRATCHED = """
import os, signal, sys
from pathlib import Path
from lmstages.core import files
with files.scratch(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_scratch_file_of_a_killed_process_goes_with_the_next(tmp_path):
    in_another_process(SCRATCHED, tmp_path)
    assert len(os.listdir(tmp_path)) == 1
    with files.scratch(tmp_path), files.scratch(tmp_path):
        assert len(os.listdir(tmp_path)) == 2, "those of the living stay"
    assert os.listdir(tmp_path) == []


def test_a_sweep_removes_what_killed_writers_left_at_any_depth_and_nothing_else(tmp_path):
    kept = tmp_path / "run" / "kept.bin"
    in_another_process(KILLED, tmp_path / "run" / "a" / "file.with.dots")
    in_another_process(SCRATCHED, tmp_path / "run" / "b")
    artifacts.save_bytes(kept, b"kept", MADE)
    foreign = tmp_path / "run" / ".of-another-program.partial"
    foreign.touch()
    with files.scratch(kept.parent) as living:
        assert len([*tmp_path.rglob(".file.with.dots.*"), *tmp_path.rglob(".scratch-*")]) == 3
        files.remove_unfinished(tmp_path / "run", tmp_path / "not there")
        left = {path for path in tmp_path.rglob("*") if path.is_file()}
        assert left == {kept, artifacts.sidecar(kept), foreign, Path(living.name)}


# Identity: whose file it is

LEVELS = {**MADE, "levels": 2}


def moved(source, target):
    """A file and its record, copied to another place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    artifacts.sidecar(target).parent.mkdir(exist_ok=True)
    shutil.copy(source, target)
    shutil.copy(artifacts.sidecar(source), artifacts.sidecar(target))


def test_a_record_holds_the_files_path_within_the_run(tmp_path):
    path = tmp_path / "run" / "gpt" / "seed0" / "scores.json"
    artifacts.save_json(path, [1], LEVELS)
    assert artifacts.made_of(path)["path"] == "gpt/seed0/scores.json"


@pytest.mark.parametrize("place", ["mlp/seed0/scores.json", "gpt/seed1/scores.json", "gpt/seed0/probe.json"])
def test_another_experiments_file_is_refused_with_both_names(tmp_path, place):
    artifacts.save_json(tmp_path / "gpt/seed0/scores.json", [1], LEVELS)
    moved(tmp_path / "gpt/seed0/scores.json", tmp_path / place)
    with pytest.raises(UserError) as error:
        artifacts.load_json(tmp_path / place)
    expected = (
        f"{tmp_path / place}: was made as gpt/seed0/scores.json; the file that belongs here is {place}; delete it"
    )
    assert str(error.value).startswith(expected)


def test_a_run_whose_folder_is_renamed_can_be_read(tmp_path):
    artifacts.save_json(tmp_path / "monday/gpt/seed0/scores.json", [1], LEVELS)
    (tmp_path / "monday").rename(tmp_path / "tuesday")
    assert artifacts.load_json(tmp_path / "tuesday/gpt/seed0/scores.json") == [1]


def test_a_file_made_from_another_version_of_its_input_is_refused(tmp_path):
    model, scores = tmp_path / "model.json", tmp_path / "scores.json"
    artifacts.save_json(model, [1], MADE)
    before = artifacts.made_of(model)["sha256"]
    artifacts.save_json(scores, [2], {**MADE, "inputs": {"model.json": before}})
    artifacts.must_be_made_from(scores, model)
    artifacts.save_json(model, [3], MADE)
    with pytest.raises(
        UserError, match=rf"was made from another model.json \(sha256 {before[:12]}...\); .*model.json has"
    ):
        artifacts.must_be_made_from(scores, model)
