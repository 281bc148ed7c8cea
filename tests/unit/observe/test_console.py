"""The screen: what a reader sees of a run, on a terminal and in a log file."""

import io
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from atft.observe import console


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def run(epochs: int = 2, steps: int = 4, seconds: float = 2.0) -> Iterator[dict[str, Any]]:
    """The events of a run of two phases; a step takes ``seconds``."""
    now = 1000.0
    phases = [
        {"name": name, "epochs": epochs, "learning_rate": 2e-4, "parts": []} for name in ("Baseline", "Adaptive Norm")
    ]
    yield {
        "time": now,
        "kind": "run_started",
        "tier": "quickstart",
        "seed": 7,
        "parameters": 123456,
        "device": "cpu",
        "threads": 2,
        "loader_workers": 0,
        "precision": "bf16-mixed",
        "precision_asked": "16-mixed",
        "effective_batch": {"days": 16, "stocks_per_day": 64, "block_days": 4, "samples": 1024},
        "steps_per_epoch": steps,
        "total_steps": 2 * epochs * steps,
        "phases": phases,
    }
    step = 0
    for index, phase in enumerate(phases):
        yield {"time": now, "kind": "phase_started", "phase": phase["name"], "index": index, "epochs": epochs}
        for epoch in range(1, epochs + 1):
            for _ in range(steps):
                now, step = now + seconds, step + 1
                yield {
                    "time": now,
                    "kind": "step",
                    "step": step,
                    "phase": phase["name"],
                    "epoch": epoch,
                    "loss": -0.1,
                    "batch_sharpe": 0.25 if step % 2 else 0.75,
                }
            yield {
                "time": now,
                "kind": "epoch",
                "phase": phase["name"],
                "epoch": epoch,
                "train_loss": -0.1 * epoch,
                "validation_loss": -0.05,
                "validation_sharpe": 0.131,
                "validation_ic": None,
                "seconds": 8.0,
                "best": epoch == 1,
            }
        yield {"time": now, "kind": "phase_finished", "phase": phase["name"], "best_epoch": 2, "seconds": 75.0}
    yield {"time": now, "kind": "run_finished", "result": "result.json", "report": "report.html", "seconds": 3700}


def shown(file: io.StringIO, events: Any, quiet: bool = False) -> str:
    with console.progress(quiet, file) as screen:
        for event in events:
            screen(event)
    return file.getvalue()


def test_a_log_file_gets_one_line_an_epoch_and_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = shown(io.StringIO(), run())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert len(re.findall(r"^(?:Baseline|Adaptive Norm) +epoch \d", text, re.MULTILINE)) == 4
    assert "step 4/16" in text
    assert all(len(line) < 200 for line in text.splitlines())


def test_control_characters_in_a_warning_do_not_reach_the_screen() -> None:
    text = shown(io.StringIO(), [{"kind": "warning", "text": "a\x1b[31m\r\nb [bold]c[/bold]"}])
    assert text == "warning: a [31m  b [bold]c[/bold]\n"


def test_time_left_is_the_recent_pace_times_the_steps_left() -> None:
    line = next(line for line in shown(io.StringIO(), run(seconds=5.0)).splitlines() if "epoch 1" in line)
    assert line.endswith("1:00 left  best")  # 12 of 16 steps at 5 s


def test_time_left_of_a_resumed_run_counts_only_its_own_steps() -> None:
    events = list(run(epochs=2, steps=50, seconds=1.0))
    start = next(i for i, event in enumerate(events) if event.get("step") == 151)
    later = [{**events[0], "time": events[start]["time"] - 1.0}, {"kind": "resumed", "step": 150}, *events[start:]]
    screen = console.Screen(quiet=True)
    for event in later[:12]:
        screen(event)
    assert screen._run.seconds_left() == pytest.approx(40.0)


def test_the_row_of_a_phase_holds_its_best_epoch_and_the_spread_of_the_batch_sharpe() -> None:
    text = shown(io.StringIO(), run())
    heading, row = re.findall(r"^phase .*$|^Baseline +2 .*$", text, re.MULTILINE)
    assert re.split(r"\s{2,}", row.strip()) == [
        "Baseline",
        "2",
        "2",
        "-0.2000",
        "+0.131",
        "-",
        "+0.500 ± 0.250",
        "1:15",
    ]
    assert len(row) == len(heading)
    assert text.count("val. Sharpe") == 1


def test_precision_in_effect_is_shown_beside_the_one_asked_for() -> None:
    assert "precision bf16-mixed (asked: 16-mixed)" in shown(io.StringIO(), run())


def test_quiet_shows_nothing() -> None:
    assert shown(io.StringIO(), run(), quiet=True) == ""
    assert shown(Terminal(), run(), quiet=True) == ""


def test_a_terminal_gets_bars_and_is_left_with_its_cursor_shown() -> None:
    text = shown(Terminal(), run())
    assert "━" in text
    assert "whole run" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "finished in 1:01:40: report.html" in text.splitlines()[-1]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_a_clean_screen_that_says_where_the_run_stopped(
    stream: type[io.StringIO], error: type[BaseException]
) -> None:
    file = stream()

    def broken() -> None:
        with console.progress(file=file) as screen:
            for event in run():
                screen(event)
                if event.get("step") == 6:
                    raise error

    with pytest.raises(error):
        broken()
    assert "stopped in phase Baseline, epoch 2, step 6" in file.getvalue().splitlines()[-1]
    assert file.getvalue().rfind("\x1b[?25h") >= file.getvalue().rfind("\x1b[?25l")


def test_a_stream_without_unicode_gets_its_nearest_letters() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    with console.progress(file=file) as screen:
        for event in run():
            screen(event)
    file.flush()
    assert "16 days x 64 stocks" in raw.getvalue().decode("ascii")
    assert "+0.500 +/- 0.250" in raw.getvalue().decode("ascii")


def test_events_out_of_order_or_unknown_are_no_error() -> None:
    for event in run():
        console.Screen(file=io.StringIO())({**event})
    console.Screen(file=io.StringIO())({"kind": "something_new"})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.44, "0.4 s"), (59.9, "1:00"), (60, "1:00"), (3599.7, "1:00:00"), (3725, "1:02:05")],
)
def test_durations_read_as_a_clock(seconds: float | None, text: str) -> None:
    assert console.duration(seconds) == text


def test_missing_batch_sharpe_is_a_dash_and_nan_never_shows() -> None:
    text = shown(io.StringIO(), ({**event, "batch_sharpe": None} for event in run()))
    assert "nan" not in text
    assert math.isfinite(len(text))


def test_long_work_is_told_every_twenty_seconds_and_a_note_at_once(monkeypatch):
    clock, out = iter([0.0, 1.0, 2.0, 21.0, 22.0, 50.0]), io.StringIO()
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    tell = console.patience(file=out)
    for stage, part in (("read", 0.0), ("two words", 0.0), ("features", 0.25), ("features", 0.5), ("features", 1.0)):
        tell(stage, part)
    assert out.getvalue() == "two words\nfeatures: 25%\nfeatures: 100%\n"
