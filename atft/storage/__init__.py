"""Files beyond this node: a directory at a URI, a local directory mirrored to it, and a node's copy of one. A leaf."""

from atft.storage.copies import fetch_directory
from atft.storage.mirror import Mirror
from atft.storage.places import cache_root, is_remote, local_path
from atft.storage.store import Store

__all__ = ["Mirror", "Store", "cache_root", "fetch_directory", "is_remote", "local_path"]
