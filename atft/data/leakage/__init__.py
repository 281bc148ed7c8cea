"""Rebuilds of a panel or of a user's own features from a table whose future is gone, or another one."""
