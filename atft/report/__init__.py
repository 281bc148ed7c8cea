"""What a run is told by afterwards: a verdict in words and one HTML file."""
