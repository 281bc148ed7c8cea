"""The network: one layer a file, composed by ``network.py``."""
