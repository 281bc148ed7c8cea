"""Benchmarks: each case pairs this project with a peer, or with a limit, on the same work in one run.

``python -m benchmarks CASE`` runs one; ``docs/benchmarks/README.md`` says what is asserted.
"""

import os

# The profiler that counts memory writes two lines to the error stream each time, below this level; before torch loads.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")
