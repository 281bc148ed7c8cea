"""What starts things: on this machine, so far."""
