"""pyarrow's file systems: how one is opened for a URI, and what their errors mean."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from atft.errors import UseError

OBJECT_STORES = {"s3", "gcs", "abfs"}
"""Kinds where a file appears whole, at the end of its upload."""
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
"""Longest waits for a connection, and for any byte once it stands."""
URI_OPTIONS = {"endpoint_override", "scheme", "region"}
CHECKSUMS = "AWS_REQUEST_CHECKSUM_CALCULATION"

LASTING_KINDS = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError, ValueError)
LASTING = re.compile(
    r"AWS Error (ACCESS_DENIED|NO_SUCH|SIGNATURE|INVALID|UNRECOGNIZED|MISSING|EXPIRED)"
    r"|HTTP status (4(?!08|25|29)\d\d|501)|PERMISSION_DENIED|UNAUTHENTICATED|Unable to load"
)
NOT_ALLOWED = re.compile(r"ACCESS_DENIED|SIGNATURE|KEY_ID|TOKEN|HTTP status 40[13]|PERMISSION_DENIED|UNAUTHENTICATED")


def open_filesystem(uri: str) -> tuple[Any, str]:
    """The file system and the path in it that a remote URI stands for.

    Raises:
        UseError: as :func:`s3_options`.
        OSError: as pyarrow raises it.
        ValueError: as pyarrow raises it, for a kind of storage that it does not know.
    """
    from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, S3FileSystem, resolve_s3_region

    parts = urlsplit(uri)
    if parts.scheme != "s3":
        opened: tuple[Any, str] = FileSystem.from_uri(_within_patience(quote(uri, safe="/:?&=@#%,+~")))
        return opened
    bucket, options = parts.netloc, s3_options(uri, os.environ)
    if "endpoint_override" in options:
        os.environ.setdefault(CHECKSUMS, "when_required")
    if "region" not in options:
        options["region"] = resolve_s3_region(bucket)
    once = AwsStandardS3RetryStrategy(max_attempts=1)
    waits = {"connect_timeout": CONNECT_SECONDS, "request_timeout": ANSWER_SECONDS}
    system = S3FileSystem(**options, **waits, retry_strategy=once, allow_delayed_open=True)
    return system, f"{bucket}{unquote(parts.path)}"


def s3_options(uri: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Endpoint, scheme and region of an S3 URI: from its own options, else from the environment.

    Returns:
        Keyword arguments of ``pyarrow.fs.S3FileSystem``; no region where only Amazon can tell it.

    Raises:
        UseError: another option in the URI, credentials, or no bucket.
    """
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    if "@" in parts.netloc:
        raise UseError(
            f"s3://…@{parts.netloc.rpartition('@')[2]}: credentials do not belong in a URI, which is logged. "
            "Mend: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment."
        )
    if not parts.netloc:
        raise UseError(f"{uri}: names no bucket. Mend: s3://BUCKET/DIRECTORY.")
    if unknown := sorted(options.keys() - URI_OPTIONS):
        raise UseError(f"{uri}: no option {unknown[0]!r}. Mend: one of {', '.join(sorted(URI_OPTIONS))}, or none.")
    for option, names in (
        ("endpoint_override", ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")),
        ("region", ("AWS_REGION", "AWS_DEFAULT_REGION")),
    ):
        told = next((environment[name] for name in names if environment.get(name)), None)
        if told is not None:
            options.setdefault(option, told)
    if "endpoint_override" in options:
        options.setdefault("region", "us-east-1")
    return options


def is_lasting(error: Exception) -> bool:
    """Whether another try would fail in the same way: a wrong name, a wrong key, a missing bucket."""
    return isinstance(error, LASTING_KINDS) or LASTING.search(str(error)) is not None


def mend(error: Exception) -> str:
    """What a user can do about a failure of the storage."""
    if "NO_SUCH_BUCKET" in str(error):
        return "Mend: make the bucket, or name another."
    if isinstance(error, PermissionError) or NOT_ALLOWED.search(str(error)):
        return "Mend: credentials that may do this there (for S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."
    if is_lasting(error):
        return "Mend: name another place: s3://BUCKET/DIRECTORY, or a directory here."
    return "Mend: see that the storage runs and is reached from here (for S3 AWS_ENDPOINT_URL), and try again."


def reason(error: Exception) -> str:
    """The first line of what pyarrow says, without what the message tells already."""
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return re.sub(r"^When .*?: (?=AWS Error)| \(Request ID: \w*\)", "", line).rstrip(".")


def _within_patience(uri: str) -> str:
    """Google's client tries again for 15 minutes unless it is told otherwise; tries are counted by the store."""
    if uri.startswith(("gs://", "gcs://")) and "retry_limit_seconds" not in uri:
        return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={ANSWER_SECONDS:.0f}"
    return uri
