"""Which places are remote, where copies lie, which URIs are refused, and which failures may pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atft.errors import UseError
from atft.storage import Store, cache_root, is_remote, local_path
from atft.storage.backend import is_lasting


@pytest.mark.parametrize(
    ("place", "remote"),
    [
        ("s3://b/x", True),
        ("gs://b", True),
        (Path("s3://b/x"), True),
        ("file:///x", False),
        ("/x", False),
        ("x:y", False),
    ],
)
def test_a_place_is_remote_where_its_uri_has_another_scheme_than_file(place: str | Path, remote: bool) -> None:
    assert is_remote(place) is remote


def test_a_file_uri_is_a_path_and_a_remote_one_is_refused() -> None:
    assert local_path("file:///tmp/a%20b") == Path("/tmp/a b")
    assert local_path("panels/x") == Path("panels/x")
    with pytest.raises(UseError, match=r"s3://b/x: is not on this node\. Mend: "):
        local_path("s3://b/x")


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATFT_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("HOME", "/h")
    assert cache_root() == Path("/a")
    monkeypatch.delenv("ATFT_CACHE")
    assert cache_root() == Path("/x/atft")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path("/h/.cache/atft")


def test_importing_it_loads_no_pyarrow() -> None:
    code = "import sys, atft.storage; print('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("message", "lasting"),
    [
        ("AWS Error SLOW_DOWN during PutObject operation: reduce your rate", False),
        ("AWS Error UNKNOWN (HTTP status 503) during UploadPart operation", False),
        ("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 28", False),
        ("AWS Error UNKNOWN (HTTP status 411) during UploadPart operation", True),
        ("AWS Error INVALID_ACCESS_KEY_ID during PutObject operation", True),
    ],
)
def test_only_what_may_pass_is_tried_again(message: str, lasting: bool) -> None:
    assert is_lasting(OSError(message)) is lasting


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("ftp://x/y", "ftp://x/y: cannot be opened: .*Mend: "),
        ("s3://key:secret@b/x", r"s3://…@b: credentials do not belong in a URI"),
        ("s3://b/x?secret_key=y", "no option 'secret_key'. Mend: one of endpoint_override, region, scheme"),
        ("s3:///x", "names no bucket"),
    ],
)
def test_a_uri_that_cannot_be_used_is_refused_without_its_secrets(uri: str, told: str) -> None:
    with pytest.raises(UseError, match=told) as error:
        Store(uri)
    assert "key:secret" not in str(error.value)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../f", "a/../../f", "a//b"])
def test_a_name_that_leads_out_of_the_directory_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UseError, match=r"is not a name inside it\. Mend: "):
        Store(tmp_path).download(name, tmp_path / "f")
