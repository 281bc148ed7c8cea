"""Storage: whole files or none, outages only delay, and one copy a node; on local files and a real S3 server."""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.errors import UseError
from atft.storage import Mirror, Store, fetch_directory
from tests.s3_server import S3Server, served
from tests.storing import copy_with_others, die_while_copying, eventually, panel, stored, tree, write

CHECKSUMS = "AWS_REQUEST_CHECKSUM_CALCULATION"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with served(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(server: S3Server, tmp_path: Path) -> str:
    """URI of an empty directory in S3."""
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture(params=["local", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URI of an empty directory of each kind."""
    return request.getfixturevalue("bucket") if request.param == "s3" else f"file://{tmp_path}/remote"


def store(uri: str, tries: int = 2) -> Store:
    return Store(uri, tries=tries, wait=0.02)


def test_what_is_uploaded_is_listed_and_comes_back_byte_for_byte(uri: str, tmp_path: Path) -> None:
    files = {"a": b"", "sub/deep/b c%20é+.bin": b"x" * 100, "big": os.urandom(9 * 2**20)}
    remote = store(uri)
    assert remote.list() == {}
    for name, content in files.items():
        remote.upload(write(tmp_path / "from" / name, content), name)
        remote.download(name, tmp_path / "to" / name)
    assert remote.list() == {name: len(content) for name, content in files.items()}
    assert tree(tmp_path / "to") == files
    assert remote.exists("a")
    assert not remote.exists("sub")
    remote.delete("a")
    assert not remote.exists("a")
    assert "a" not in remote.list()


def test_a_missing_file_is_named_and_the_local_one_stays(uri: str, tmp_path: Path) -> None:
    local = write(tmp_path / "here" / "f", b"old")
    for act in (
        lambda: store(uri).download("no/f", local),
        lambda: store(uri).delete("no/f"),
        lambda: store(uri).read("no/f"),
    ):
        with pytest.raises(UseError, match=rf"{uri}/no/f: there is no such file\. Mend: "):
            act()
    with pytest.raises(UseError, match=r"gone: cannot be read: No such file or directory\. Mend: "):
        store(uri).upload(tmp_path / "gone", "f")
    assert tree(tmp_path / "here") == {"f": b"old"}
    assert store(uri).list() == {}


def test_a_writable_place_passes_and_keeps_no_marker(uri: str, tmp_path: Path) -> None:
    store(uri).check_writable()
    assert store(uri).list() == {}
    assert tree(tmp_path) == {}


def test_a_place_that_cannot_be_written_is_told_with_the_reason(server: S3Server, tmp_path: Path) -> None:
    write(tmp_path / "file", b"")
    with pytest.raises(UseError, match=rf"{tmp_path}/file/x: cannot be written: .*[Nn]ot a directory.*Mend: "):
        store(f"{tmp_path}/file/x").check_writable()
    with pytest.raises(UseError, match=r"s3://other/x: cannot be written: .*NO_SUCH_BUCKET.*Mend: make the bucket"):
        store("s3://other/x").check_writable()
    with pytest.raises(UseError, match=r"s3://other/x: there is no bucket 'other'\. Mend: "):
        store("s3://other/x").list()


def test_wrong_credentials_are_told_at_once(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UseError, match=r"SIGNATURE_DOES_NOT_MATCH.*Mend: credentials .*AWS_SECRET_ACCESS_KEY") as told:
        Store(bucket, tries=2, wait=1).check_writable()
    assert "tries" not in str(told.value)


def test_checksums_are_left_out_only_for_a_given_endpoint_and_an_unset_variable(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHECKSUMS, "when_supported")
    Store("s3://bucket/x")
    assert os.environ[CHECKSUMS] == "when_supported"
    monkeypatch.delenv(CHECKSUMS)
    Store("s3://bucket/x")
    assert os.environ[CHECKSUMS] == "when_required"
    monkeypatch.delenv(CHECKSUMS)
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    Store("s3://bucket/x")
    assert CHECKSUMS not in os.environ
    assert Store(f"s3://bucket/x?endpoint_override={endpoint}&region=us-east-1").list() == {}


def test_a_failure_that_passes_is_tried_again_and_one_that_stays_tells_for_how_long(
    server: S3Server, bucket: str, tmp_path: Path
) -> None:
    local = write(tmp_path / "f", b"x")
    server.stop()
    try:
        with pytest.raises(UseError, match=r"/f: cannot be written after 3 tries in \d+\.\d s: .*connect.*Mend: "):
            store(bucket, tries=3).upload(local, "f")
    finally:
        back = threading.Timer(0.3, server.start)
        back.start()
    Store(bucket, tries=8, wait=0.1).upload(local, "f")
    back.join()
    assert stored(bucket) == {"f": b"x"}


def test_a_file_that_grows_is_stored_as_it_was_when_the_upload_began(uri: str, tmp_path: Path) -> None:
    log, done = write(tmp_path / "events.jsonl", b"x" * 12 * 2**20), threading.Event()

    def grow() -> None:
        with log.open("ab", buffering=0) as file:
            for _ in range(2000):
                file.write(b"y" * 2**16)
                if done.wait(0.001):
                    break

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        _, size = store(uri).upload(log, "events.jsonl")
    finally:
        done.set()
        writer.join()
    remote = store(uri).read("events.jsonl")
    assert len(remote) == size < log.stat().st_size
    assert log.read_bytes().startswith(remote)


def test_who_reads_while_a_file_is_replaced_sees_one_that_is_whole(tmp_path: Path) -> None:
    sources = [write(tmp_path / letter, letter.encode() * 2**20) for letter in "ab"]
    there, here, done = tmp_path / "there" / "f", tmp_path / "here" / "f", threading.Event()
    remote, seen = Store(there.parent), set()

    def replace() -> None:
        for number in range(60):
            remote.upload(sources[number % 2], "f")
            remote.download("f", here)
        done.set()

    remote.upload(sources[0], "f")
    remote.download("f", here)
    writer = threading.Thread(target=replace)
    writer.start()
    while not done.is_set():
        seen |= {there.read_bytes(), here.read_bytes()}
    writer.join()
    assert seen == {source.read_bytes() for source in sources}


def test_an_upload_that_is_interrupted_leaves_the_old_file_or_the_new_one_whole(bucket: str, tmp_path: Path) -> None:
    old, new = write(tmp_path / "old", b"old"), write(tmp_path / "new", os.urandom(32 * 2**20))
    store(bucket).upload(old, "f")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            store(bucket).upload(new, "f")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert store(bucket).list()["f"] in {3, 32 * 2**20}
    assert store(bucket).read("f") in {old.read_bytes(), new.read_bytes()}


NAMES = st.lists(
    st.text("aB.-_ %#é+", min_size=1, max_size=6).filter(lambda part: part not in {".", ".."}), min_size=1, max_size=3
).map("/".join)


def has_no_file_as_folder(files: dict[str, bytes]) -> bool:
    return not any(other.startswith(f"{name}/") for name in files for other in files)


@settings(max_examples=20, deadline=None)
@given(files=st.dictionaries(NAMES, st.binary(max_size=64), max_size=6).filter(has_no_file_as_folder))
def test_any_tree_comes_back_from_a_mirror_but_for_what_is_being_written(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as room:
        here, there, again = (Path(room, name) for name in ("here", "there", "again"))
        for name, content in files.items():
            write(here / name, content)
        write(here / ".half.tmp", b"half")
        write(there / ".half.tmp", b"half")
        mirror = Mirror(here, Store(there))
        assert sorted(mirror.push_changed()) == sorted(files)
        assert mirror.push_changed() == []
        fresh = Mirror(again, Store(there))
        assert sorted(fresh.pull()) == sorted(files)
        assert tree(again) == files
        assert fresh.pull() == fresh.push_changed() == []


def test_named_files_are_stored_in_their_order_up_to_the_first_that_fails(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "here", Store(tmp_path / "there"))
    for name in ("a", "b", "c"):
        write(mirror.local / name, b"x")
    with pytest.raises(UseError, match="missing"):
        mirror.push("c", "a", "missing", "b")
    entries = mirror.remote.entries()
    assert entries.keys() == {"a", "c"}
    assert entries["c"].modified_ns < entries["a"].modified_ns


def test_only_what_changed_is_stored_oldest_first(uri: str, tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "here", store(uri))
    for age, name in enumerate(["config", "weights", "latest"]):
        os.utime(write(mirror.local / name, b"1"), ns=(0, 10**18 + age))
    assert mirror.push_changed() == ["config", "weights", "latest"]
    write(mirror.local / "config", b"1")
    os.utime(write(mirror.local / "latest", b"2"), ns=(0, 10**18 + 9))
    assert mirror.push_changed() == ["latest", "config"]
    assert stored(uri) == {"config": b"1", "latest": b"2", "weights": b"1"}


def test_pulling_restores_and_renews_but_keeps_what_was_written_here_since(uri: str, tmp_path: Path) -> None:
    remote = store(uri)
    for name in ("missing", "older", "newer", "stored"):
        remote.upload(write(tmp_path / "other" / name, b"remote"), name)
    mirror = Mirror(tmp_path / "here", remote)
    os.utime(write(mirror.local / "older", b"local, from long ago"), ns=(0, 10**18))
    os.utime(write(mirror.local / "newer", b"local, unpushed"), ns=(0, time.time_ns() + 10**10))
    os.utime(write(mirror.local / "stored", b"local, pushed"), ns=(0, time.time_ns() + 10**10))
    mirror.push("stored")
    remote.upload(write(tmp_path / "other" / "stored", b"by another"), "stored")
    assert mirror.pull() == ["missing", "older", "stored"]
    assert tree(mirror.local) == {
        "missing": b"remote",
        "older": b"remote",
        "newer": b"local, unpushed",
        "stored": b"by another",
    }


def test_an_outage_only_delays_what_the_background_stores(server: S3Server, bucket: str, tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "here", store(bucket, tries=1), patience=20)
    log = write(mirror.local / "events.jsonl", b"1\n")
    mirror.start(0.05)
    eventually(lambda: stored(bucket) == {"events.jsonl": b"1\n"})
    with server.outage():
        with log.open("ab") as file:
            file.write(b"2\n")
        write(mirror.local / "checkpoints" / "1", b"weights")
        eventually(lambda: mirror.failing_seconds > 0.3)
        mirror.check()
    eventually(lambda: stored(bucket) == tree(mirror.local))
    eventually(lambda: mirror.failing_seconds == 0)
    write(mirror.local / "last", b"x")
    mirror.close()
    assert (
        stored(bucket) == tree(mirror.local) == {"events.jsonl": b"1\n2\n", "checkpoints/1": b"weights", "last": b"x"}
    )


def test_an_outage_that_lasts_is_raised_after_the_bound_and_once_more_at_the_end(
    server: S3Server, bucket: str, tmp_path: Path
) -> None:
    mirror = Mirror(tmp_path / "here", store(bucket, tries=1), patience=0.5)
    write(mirror.local / "f", b"x")

    def raises() -> bool:
        try:
            mirror.check()
        except UseError as error:
            return "0.5 s is the longest outage" in str(error) and f"{bucket}/f: cannot be written" in str(error)
        return False

    with server.outage():
        began = time.monotonic()
        mirror.start(0.02)
        eventually(raises)
        assert time.monotonic() - began >= 0.5
    with pytest.raises(UseError, match=r"here: its files could not be stored for \d+\.\d s"):
        mirror.close()
    assert stored(bucket) == {"f": b"x"}


def test_closing_waits_for_the_storage_no_longer_than_the_bound(server: S3Server, bucket: str, tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "here", store(bucket, tries=1), patience=0.3)
    write(mirror.local / "f", b"x")
    with server.outage(), pytest.raises(UseError, match="could not be stored"):
        mirror.close()


def test_of_three_processes_one_copies_and_all_get_the_whole(bucket: str, tmp_path: Path) -> None:
    content = panel(bucket, tmp_path, "1")
    spawn = multiprocessing.get_context("spawn")
    start, told = spawn.Barrier(3), spawn.Queue()
    processes = [
        spawn.Process(target=copy_with_others, args=(bucket, tmp_path / "cache", start, told)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    answers = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(copied for copied, _ in answers) == [False, False, True]
    assert all(found == content for _, found in answers)


def test_a_copier_that_is_killed_leaves_nothing_under_the_name_and_the_next_one_starts_anew(
    uri: str, tmp_path: Path
) -> None:
    content, cache = panel(uri, tmp_path, "1"), tmp_path / "cache"
    process = multiprocessing.get_context("spawn").Process(target=die_while_copying, args=(uri, cache))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [path for path in cache.iterdir() if not path.name.startswith(".")] == []
    folder = fetch_directory(uri, cache)
    assert tree(folder) == content
    assert {path.name for path in cache.iterdir()} == {folder.name, f".{folder.name}.lock"}


def test_a_copy_is_used_again_until_the_manifest_changes_and_open_files_outlive_it(uri: str, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def fetch() -> Path:
        seen.clear()
        return fetch_directory(uri, tmp_path / "cache", lambda *told: seen.append(told))

    first = panel(uri, tmp_path, "1", files=3)
    folder = fetch()
    total = sum(map(len, first.values()))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1] == ("manifest.json", total, total)
    with (folder / "features" / "0").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        fetch()
        assert seen == []
        second = panel(uri, tmp_path, "2", files=3)
        assert fetch() == folder
        assert tree(folder) == second
        assert mapped[:] == first["features/0"]
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {folder.name, f".{folder.name}.lock"}


def test_a_failing_copy_leaves_nothing_and_one_without_manifest_is_refused(uri: str, tmp_path: Path) -> None:
    panel(uri, tmp_path, "1", files=2)

    def fail(*_: Any) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fetch_directory(uri, tmp_path / "cache", fail)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    Store(uri).delete("manifest.json")
    with pytest.raises(UseError, match=rf"{uri}: there is no complete directory: it holds no manifest\.json\. Mend: "):
        fetch_directory(uri, tmp_path / "cache")


def test_a_directory_that_changes_while_it_is_copied_is_copied_again(uri: str, tmp_path: Path) -> None:
    panel(uri, tmp_path, "1", files=2)
    rounds: list[dict[str, bytes]] = []

    def change(name: str, *_: int) -> None:
        if name == "features/1" and not rounds:
            rounds.append(panel(uri, tmp_path, "2", files=2))

    assert tree(fetch_directory(uri, tmp_path / "cache", change)) == rounds[0]
