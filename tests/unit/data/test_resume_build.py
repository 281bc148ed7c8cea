"""A build that is killed: the old panel stays, the finished chunks are taken over, the bytes are the same."""

import os
import signal
import subprocess
import sys
import time

import pytest

from atft.data import build as module
from atft.data import chunks, room
from atft.data.build import build
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.errors import UseError
from tests.unit.data import tables
from tests.unit.data.test_append import bytes_in

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
NAMES = ["return_20", "beta_60"]
CHILD = """
import sys, time
sys.path.insert(0, {root!r})
from atft.data import build as module, chunks
chunks.ROWS_AT_ONCE = 1
module.build({source!r}, {out!r}, computed={names}, overwrite=True, progress=lambda stage, part: time.sleep(0.3))
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "ROWS_AT_ONCE", 1)  # each chunk is computed by itself
    return tables.written(tables.bars(days=300), tmp_path)


@pytest.fixture
def panel(source, tmp_path):
    """An older panel, where the new one is to be."""
    build(source, tmp_path / "panel", computed=["gap"])
    return tmp_path / "panel"


def kill_after(files, source, out):
    """Start a build in a process of its own and kill it once so many files are finished."""
    code = CHILD.format(root=ROOT, source=str(source), out=str(out), names=NAMES)
    child = subprocess.Popen([sys.executable, "-c", code])
    log = out.with_name(f".{out.name}.build") / "finished"
    try:
        until = time.monotonic() + 60
        while not (log.is_file() and log.read_text().count("\n") >= files):
            assert child.poll() is None, "the build was over before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL


def stop_after(count):
    """Interrupts a build once so many chunks are there."""
    calls = iter(range(1000))

    def tell(stage, part):
        if stage == "features" and next(calls) == count:
            raise KeyboardInterrupt

    return tell


def asked(monkeypatch):
    """The chunks that are computed from now on."""
    found, real = [], chunks.Recipe.chunks
    monkeypatch.setattr(chunks.Recipe, "chunks", lambda self, wanted: found.extend(wanted) or real(self, wanted))
    return found


def again(source, out, **options):
    told = []
    build(source, out, computed=NAMES, overwrite=True, progress=lambda stage, part: told.append(stage), **options)
    return [stage for stage in told if stage not in ("read", "features")]


def test_a_killed_build_leaves_the_old_panel_and_the_next_goes_on_to_the_same_bytes(source, panel, monkeypatch):
    before = bytes_in(panel)
    kill_after(2, source, panel)
    assert bytes_in(panel) == before
    Panel.open(panel).verify()
    kill_after(3, source, panel)
    assert bytes_in(panel) == before
    computed = asked(monkeypatch)
    told = again(source, panel)
    assert told == ["going on from 3 finished files of a build that was cut off"]
    assert computed == [3, 4]
    build(source, panel.with_name("undisturbed"), computed=NAMES)
    assert bytes_in(panel) == bytes_in(panel.with_name("undisturbed"))
    assert sorted(os.listdir(panel.parent)) == ["bars.parquet", "panel", "undisturbed"]


@pytest.mark.parametrize("what", ["source", "options", "program"])
def test_another_build_starts_anew_and_says_so(source, panel, monkeypatch, tmp_path, what):
    with pytest.raises(KeyboardInterrupt):
        build(source, panel, computed=NAMES, overwrite=True, progress=stop_after(2))
    options = {"normalise": "zscore"} if what == "options" else {}
    if what == "source":
        frame = tables.bars(days=300)
        frame[5, "high"] = frame[5, "high"] * 2
        tables.written(frame, tmp_path)
    if what == "program":
        monkeypatch.setattr(module, "_LIBRARIES", ("numpy",))
    computed = asked(monkeypatch)
    told = again(source, panel, **options)
    assert told == ["removing 2 files of another build (source, options or program) that was cut off"]
    assert computed == [0, 1, 2, 3, 4]
    build(source, tmp_path / "undisturbed", computed=NAMES, **options)
    assert bytes_in(panel) == bytes_in(tmp_path / "undisturbed")


def test_an_interrupted_build_says_that_its_chunks_stay(source, panel):
    told, stop = [], stop_after(2)

    def tell(stage, part):
        told.append(stage)
        stop(stage, part)

    with pytest.raises(KeyboardInterrupt):
        build(source, panel, computed=NAMES, overwrite=True, progress=tell)
    assert told[-1] == f"interrupted: 2 finished files stay in {panel.parent / '.panel.build'} for the same command"
    assert again(source, panel) == ["going on from 2 finished files of a build that was cut off"]


def test_a_finished_file_that_was_damaged_is_made_again(source, panel, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        build(source, panel, computed=NAMES, overwrite=True, progress=stop_after(3))
    file = panel.parent / ".panel.build/panel/features/00001.arrow"
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    computed = asked(monkeypatch)
    assert again(source, panel) == ["going on from 2 finished files of a build that was cut off"]
    assert computed == [1, 3, 4]
    Panel.open(panel).verify()


def test_a_build_that_failed_for_another_reason_leaves_nothing(source, panel):
    before = bytes_in(panel)

    def fail(stage, part):
        if part > 0.5 and stage == "features":
            raise ValueError

    with pytest.raises(ValueError):
        build(source, panel, computed=NAMES, overwrite=True, progress=fail)
    assert bytes_in(panel) == before
    assert sorted(os.listdir(panel.parent)) == ["bars.parquet", "panel"]


def test_two_builds_of_one_panel_at_once_are_refused(source, panel):
    with room.making(panel, overwrite=True) as held:
        held.resume(None)
        with pytest.raises(UseError, match="is being made by another process"):
            build(source, panel, computed=NAMES, overwrite=True)
        assert held.panel.is_dir()


def test_a_panel_that_a_killed_process_had_moved_aside_is_put_back(source, panel):
    before = bytes_in(panel)
    aside = panel.with_name(".panel.build")
    aside.mkdir()
    os.rename(panel, aside / "old")
    with pytest.raises(UseError, match="fits none of the source's columns"):
        build(source, panel, Roles(features=("nothing",)))
    assert not panel.exists()  # the source is read first
    with pytest.raises(ZeroDivisionError):
        build(source, panel, computed=NAMES, progress=lambda stage, part: part if stage == "read" else 1 / 0)
    assert bytes_in(panel) == before


def test_what_took_the_name_during_the_build_is_not_replaced(source, tmp_path):
    def take(stage, part):
        if stage == "features":
            (tmp_path / "fresh").mkdir(exist_ok=True)

    with pytest.raises(UseError, match="exists already"):
        build(source, tmp_path / "fresh", computed=NAMES, progress=take)
    assert sorted(os.listdir(tmp_path)) == ["bars.parquet", "fresh"]
    assert os.listdir(tmp_path / "fresh") == []


def test_names_are_swapped_at_once(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "letter").write_text(name)
    done = room.exchange(tmp_path / "one", tmp_path / "other")
    letters = [(tmp_path / name / "letter").read_text() for name in ("one", "other")]
    assert letters == (["other", "one"] if done else ["one", "other"])  # a disk that cannot leaves both as they were
    assert not room.exchange(tmp_path / "one", tmp_path / "none")


def test_what_other_killed_builds_left_beside_is_named(source, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path / "first", computed=NAMES, progress=stop_after(1))
    told = again(source, tmp_path / "second")
    assert told == [
        f"{tmp_path / '.first.build'} was left by a build that was cut off: give its command again, or delete it"
    ]
