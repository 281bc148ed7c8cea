"""The event log: what is written is what is read, whatever killed the writer."""

import datetime as dt
import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.errors import UseError
from atft.observe import events


def kinds(path: Path) -> list[str]:
    return [event["kind"] for event in events.read(path)]


def test_an_event_is_on_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    log = events.EventLog(tmp_path)
    log.write("step", step=1, loss=-0.25)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(lines) == 1
    event = json.loads(lines[0])
    assert event["kind"] == "step"
    assert event["loss"] == -0.25
    assert abs(event["time"] - dt.datetime.now().timestamp()) < 60


def test_floats_that_are_not_finite_become_null_at_any_depth(tmp_path: Path) -> None:
    with events.EventLog(tmp_path) as log:
        log.write(
            "step",
            loss=math.nan,
            parts={"sharpe": math.inf, "list": [1.0, -math.inf]},
            numpy=np.float32("nan"),
            array=np.array([1.0, np.nan]),
            tensor=torch.tensor([math.nan, 2.0]),
            integer=np.int64(3),
        )

    def refuse(name: str) -> None:
        raise AssertionError(name)

    event = json.loads((tmp_path / "events.jsonl").read_text(), parse_constant=refuse)
    assert event["loss"] is None
    assert event["parts"] == {"sharpe": None, "list": [1.0, None]}
    assert event["numpy"] is None
    assert event["array"] == [1.0, None]
    assert event["tensor"] == [None, 2.0]
    assert event["integer"] == 3


def test_paths_dates_and_line_breaks_stay_on_one_line(tmp_path: Path) -> None:
    with events.EventLog(tmp_path) as log:
        log.write("warning", text="one\ntwo\u2028three", path=tmp_path / "a", day=dt.date(2017, 1, 3))
    (event,) = events.read(tmp_path)
    assert event["text"] == "one\ntwo\u2028three"
    assert event["path"] == str(tmp_path / "a")
    assert event["day"] == "2017-01-03"


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=0, max_value=400), after=st.integers(min_value=0, max_value=3))
def test_a_log_cut_anywhere_keeps_all_whole_lines_and_goes_on(tmp_path_factory, cut: int, after: int) -> None:
    file = tmp_path_factory.mktemp("run") / "events.jsonl"
    with events.EventLog(file) as log:
        for number in range(5):
            log.write("step", step=number, text="}{")
    whole = file.read_bytes()[:cut]
    file.write_bytes(whole)
    # Oracle without a parser: a line is whole if its closing brace is there.
    expected = sum(line.endswith(b'"}{"}') for line in whole.split(b"\n"))
    assert len(events.read(file)) == expected
    with events.EventLog(file) as log:
        for number in range(after):
            log.write("later", number=number)
    assert kinds(file) == ["step"] * expected + ["later"] * after


def test_a_step_that_a_resumed_run_repeats_counts_once_and_the_later_wins(tmp_path: Path) -> None:
    with events.EventLog(tmp_path) as log:
        for step in range(1, 6):
            log.write("step", step=step, loss=1.0)
        log.write("epoch", epoch=1)
    with events.EventLog(tmp_path) as log:
        log.write("resumed", step=3)
        for step in range(4, 8):
            log.write("step", step=step, loss=2.0)
    assert [(event["step"], event["loss"]) for event in events.steps(tmp_path)] == [
        (1, 1.0),
        (2, 1.0),
        (3, 1.0),
        (4, 2.0),
        (5, 2.0),
        (6, 2.0),
        (7, 2.0),
    ]


def test_subscribers_get_the_events_that_are_on_file(tmp_path: Path) -> None:
    seen: list[events.Event] = []
    with events.EventLog(tmp_path) as log:
        log.write("before")
        log.subscribe(seen.append)
        log.write("step", loss=math.nan)
        log.write("epoch", epoch=1)
    assert seen == events.read(tmp_path)[1:]


def test_a_subscriber_that_raises_is_dropped_and_the_log_says_so(tmp_path: Path) -> None:
    calls: list[str] = []

    def broken(event: events.Event) -> None:
        calls.append(event["kind"])
        raise BrokenPipeError("gone")

    seen: list[str] = []
    with events.EventLog(tmp_path) as log:
        log.subscribe(broken)
        log.subscribe(lambda event: seen.append(event["kind"]))
        log.write("step", step=1)
        log.write("step", step=2)
    assert calls == ["step"]
    assert sorted(seen) == ["step", "step", "warning"]
    (warning,) = [event for event in events.read(tmp_path) if event["kind"] == "warning"]
    assert "broken" in warning["text"]
    assert "gone" in warning["text"]


def test_lines_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    log = events.EventLog(tmp_path)

    def many() -> None:
        for _ in range(200):
            log.write("step", text="x" * 300)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events.read(tmp_path)) == 800


def test_a_log_that_cannot_be_written_is_a_users_error_that_names_the_mend(tmp_path: Path) -> None:
    with pytest.raises(UseError, match=r"nowhere.*Mend"):
        events.EventLog(tmp_path / "nowhere" / "events.jsonl")
    with pytest.raises(UseError, match=r"cannot be read.*Mend"):
        events.read(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_users_error_that_names_the_mend() -> None:
    log = events.EventLog("/dev/full")
    with pytest.raises(UseError, match=r"space.*Mend"):
        log.write("step", step=1)
