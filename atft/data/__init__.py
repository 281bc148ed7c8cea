"""Data: tables, features, panels, graph, effective batches, and a synthetic market."""
