"""What is resident of a mapped panel stays within a bound, and reads are the same."""

import subprocess
import sys

import numpy as np
import pytest

from atft.data import resident
from atft.data.panel import CHUNK_DAYS, Panel, write_panel
from tests.unit.data.test_resume_build import ROOT

STOCKS, FEATURES = 400, 100
CHUNK = CHUNK_DAYS * STOCKS * FEATURES * 4

CHILD = """
import sys
sys.path.insert(0, {root!r})
import numpy as np
from atft.data import resident
from atft.data.panel import Panel
resident.MOST_RESIDENT = {most}
panel = Panel.open({path!r})
before, most, total = resident.shared_bytes(), 0, 0.0
stocks = np.arange(0, {stocks}, 7)
for first in range(0, len(panel.days) - 20, 5):
    total += float(panel.features(first, first + 20, stocks).sum())
    most = max(most, resident.shared_bytes() - before)
print(most, total)
"""


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    days = 6 * CHUNK_DAYS
    path = tmp_path_factory.mktemp("mapped") / "panel"
    random = np.random.default_rng(0)
    write_panel(
        path,
        days=np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-01-01") + days),
        codes=[f"S{number:03d}" for number in range(STOCKS)],
        industries=[None] * STOCKS,
        feature_names=[f"f{number}" for number in range(FEATURES)],
        close=np.ones((days, STOCKS)),
        features=(random.random((CHUNK_DAYS, STOCKS, FEATURES), np.float32) for _ in range(6)),
    )
    return path


def read_all(panel, most):
    code = CHILD.format(root=ROOT, path=str(panel), most=most, stocks=STOCKS)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    resident_bytes, total = told.split()
    return int(resident_bytes), total


def test_what_is_resident_is_bounded_and_the_numbers_are_the_same(panel):
    free, total = read_all(panel, 1 << 40)
    bounded, same = read_all(panel, 2 * CHUNK)
    assert free > 4.5 * CHUNK
    assert bounded < 2.5 * CHUNK
    assert same == total


def test_a_read_into_an_array_is_the_read(panel):
    opened = Panel.open(panel)
    stocks = np.array([3, 1, 399])
    out = np.zeros((30, 3, FEATURES), np.float32)
    assert opened.features(50, 80, stocks, out=out) is out
    np.testing.assert_array_equal(out, opened.features(50, 80, stocks))
    whole = np.zeros((30, STOCKS, FEATURES), np.float32)
    assert opened.features(10, 40, out=whole) is whole
    np.testing.assert_array_equal(whole, opened.features(10, 40))


def test_where_the_system_does_not_tell_nothing_is_let_go(monkeypatch):
    monkeypatch.setattr("builtins.open", lambda *_: (_ for _ in ()).throw(OSError()))
    assert resident.shared_bytes() == 0
