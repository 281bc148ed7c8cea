"""Entry of ``ray job submit``: trains a tier on the cluster that the job runs on.

::

    ray job submit --address http://HOST:8265 --working-dir . -- \\
        python jobs/train.py --tier tier2-retry --data /data/panel --runs /data/runs --run retry --workers 4

Takes what ``atft train`` takes. A job that is submitted again, or that Ray starts again after its node was lost, goes
on with the run of that name.
"""

from __future__ import annotations

import sys

from atft.cli import main

if __name__ == "__main__":
    given = sys.argv[1:]
    if "--tier" in given:
        at = given.index("--tier")
        given = [*given[at + 1 : at + 2], *given[:at], *given[at + 2 :]]
    main(["train", *given, "--address", "auto", "--again"])
