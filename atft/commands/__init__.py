"""The commands, grouped by when they are of use; heavy modules load when a command runs."""
