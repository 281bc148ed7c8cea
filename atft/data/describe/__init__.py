"""What a table or a panel holds, and what about it should make one careful."""

from atft.data.describe.account import describe
from atft.data.describe.model import Description
from atft.data.describe.rows import PanelRows, Rows, SourceRows

__all__ = ["Description", "PanelRows", "Rows", "SourceRows", "describe"]
