"""Statistics that betray knowledge of the future, and what is said of them."""
