"""``python -m atft``."""

from atft.cli import main

main()
