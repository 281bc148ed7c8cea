"""A synthetic market with a planted signal of known strength: what a trained network can be measured against."""

from atft.data.synth.features import PARTS, feature_names
from atft.data.synth.market import Market, make_market
from atft.data.synth.options import Shares, SynthOptions
from atft.data.synth.reach import Reachable
from atft.data.synth.write import write_market

__all__ = [
    "PARTS",
    "Market",
    "Reachable",
    "Shares",
    "SynthOptions",
    "feature_names",
    "make_market",
    "write_market",
]
