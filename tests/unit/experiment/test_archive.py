"""Archives: the same bytes for the same files, back to the last bit, and no damage that goes unnoticed."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from atft.errors import UseError
from atft.experiment.archive import files_of, write
from atft.experiment.archive_format import HEADER, WRITER
from atft.experiment.unarchive import restore, verify

CONTENT = {
    "config.json": b'{"tier": {}}',
    "events.jsonl": b'{"kind": "step"}\n' * 500,
    "checkpoints/best.safetensors": random.Random(1).randbytes(70_000),
    "an empty file": b"",
    "ünïcode": b"x",
    "deep/" * 30 + "file": b"deep",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in CONTENT.items():
        path = tmp_path / "runs/one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "runs/one/.half.tmp").write_bytes(b"being written")
    return tmp_path / "runs/one"


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    write(tmp_path / "one.tar.gz", folder, files_of(folder), "one", [{"file": "x", "facts": {}}])
    return tmp_path / "one.tar.gz"


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nothing_is_left(tmp_path: Path) -> bool:
    return not (tmp_path / "back").exists()


def refusal(archive: Path, tmp_path: Path) -> str:
    """What both reading and restoring say; restoring leaves nothing behind."""
    with pytest.raises(UseError) as told:
        verify(archive)
    with pytest.raises(UseError) as again:
        restore(archive, tmp_path / "back" / "one")
    assert str(told.value) == str(again.value)
    assert "Mend" in str(told.value)
    assert nothing_is_left(tmp_path)
    return str(told.value)


def test_a_restored_run_has_every_byte_and_nothing_else(archive: Path, tmp_path: Path) -> None:
    manifest = restore(archive, tmp_path / "back/one")
    assert content_of(tmp_path / "back/one") == CONTENT
    assert manifest == verify(archive)
    assert manifest.history == ({"file": "x", "facts": {}},)
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["one"]


def test_other_programs_can_read_it(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "plain", filter="data")
    assert content_of(tmp_path / "plain/one") == CONTENT
    told = json.loads((tmp_path / "plain/MANIFEST.json").read_text())
    assert told["files"].keys() == CONTENT.keys()


def test_the_same_run_makes_the_same_bytes_whenever_and_wherever(archive: Path, folder: Path, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "elsewhere")
    for path in moved.rglob("*"):
        path.touch()
    write(tmp_path / "again.tar.gz", moved, files_of(moved), "one", [{"file": "x", "facts": {}}])
    assert (tmp_path / "again.tar.gz").read_bytes() == archive.read_bytes()


def test_a_flipped_bit_is_refused_wherever_it_is(archive: Path, tmp_path: Path) -> None:
    whole, source = archive.read_bytes(), random.Random(7)
    places = [*range(20), *range(len(whole) - 8, len(whole)), *(source.randrange(len(whole)) for _ in range(150))]
    bad, unnoticed = tmp_path / "bad.tar.gz", []
    for place in places:
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << source.randrange(8))]) + whole[place + 1 :])
        try:
            restore(bad, tmp_path / "back/one")
        except UseError as error:
            unnoticed += [] if "is damaged" in str(error) and nothing_is_left(tmp_path) else [place]
        else:
            unnoticed.append(place)
            break
    assert unnoticed == []


@pytest.mark.parametrize("kept", [0, 5, 10, 500, 0.5, -9, -1])
def test_a_truncated_archive_is_refused(archive: Path, tmp_path: Path, kept: float) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert "is damaged" in refusal(archive, tmp_path)


def test_what_follows_the_end_is_refused(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"more")
    refusal(archive, tmp_path)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tar.gz").write_text("hello")
    assert "does not begin" in refusal(tmp_path / "text.tar.gz", tmp_path)
    assert "cannot be read" in refusal(tmp_path / "nowhere.tar.gz", tmp_path)


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]


def rewritten(archive: Path, change: Change) -> None:
    """The archive, well formed, with other members."""
    with tarfile.open(archive) as tar:
        members = [(each, (tar.extractfile(each) or io.BytesIO()).read()) for each in tar]
    change(members)
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive.write_bytes(HEADER + WRITER + packed.getvalue()[10:])


def renamed(name: str) -> Change:
    """A file and its line in the manifest with another name."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        told = json.loads(members[0][1])
        told["files"][name] = told["files"].pop("config.json")
        members[0] = (members[0][0], json.dumps(told).encode())
        for member, _ in members:
            if member.name == "one/config.json":
                member.name = f"one/{name}"

    return change


@pytest.mark.parametrize(
    "name", ["../config.json", "a/../../x", "/etc/x", "..", "a//b", "./x", "a\\..\\x", "checkpoints/../../../x"]
)
def test_names_that_lead_out_of_the_run_are_refused(archive: Path, tmp_path: Path, name: str) -> None:
    rewritten(archive, renamed(name))
    assert "leads out of" in refusal(archive, tmp_path)


def run_renamed(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[0] = (members[0][0], members[0][1].replace(b'"run": "one"', b'"run": "../one"'))


def file_missing(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    del members[-1]


def file_twice(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.append(members[-1])


def file_added(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.append((tarfile.TarInfo("one/more"), b"x"))


def file_outside(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.append((tarfile.TarInfo("../two"), b"x"))


def link_in_place(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    link = tarfile.TarInfo("one/config.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    members[:] = [(link, b"") if each.name == "one/config.json" else (each, content) for each, content in members]


def content_changed(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[:] = [(each, content.replace(b"step", b"stop")) for each, content in members]


def no_manifest(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    del members[0]


def later_schema(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[0] = (members[0][0], members[0][1].replace(b'"schema_version": 1', b'"schema_version": 2'))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (run_renamed, "run '../one'"),
        (file_missing, "files of its manifest are missing"),
        (file_twice, "does not name, or names once"),
        (file_added, "'one/more', which its manifest does not name"),
        (file_outside, "'../two'"),
        (link_in_place, "one/config.json"),
        (content_changed, "the content of events.jsonl"),
        (no_manifest, "does not begin with MANIFEST.json"),
        (later_schema, "schema_version = 2"),
    ],
)
def test_an_archive_that_is_well_formed_and_wrong_is_refused(
    archive: Path, tmp_path: Path, change: Change, told: str
) -> None:
    rewritten(archive, change)
    assert told in refusal(archive, tmp_path)


def test_a_rewritten_archive_with_nothing_changed_is_taken(archive: Path, tmp_path: Path) -> None:
    rewritten(archive, lambda members: None)
    restore(archive, tmp_path / "back/one")
    assert content_of(tmp_path / "back/one") == CONTENT


def test_nothing_that_is_there_is_written_over(archive: Path, folder: Path, tmp_path: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(UseError, match="exists already"):
        restore(archive, folder)
    with pytest.raises(UseError, match="exists already"):
        write(archive, folder, files_of(folder), "one")
    assert archive.read_bytes() == before
    assert {name for name in content_of(folder) if name != ".half.tmp"} == CONTENT.keys()


def test_a_file_that_changes_while_it_is_archived_leaves_no_archive(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atft.experiment import archive

    pack = archive._pack

    def change_and_pack(*arguments: object) -> None:
        (folder / "config.json").write_bytes(b'{"tier": []}')
        pack(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "_pack", change_and_pack)
    with pytest.raises(UseError, match=r"is not the run.*config\.json"):
        write(tmp_path / "one.tar.gz", folder, files_of(folder), "one")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_link_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(UseError, match="link: is no plain file"):
        files_of(folder)
