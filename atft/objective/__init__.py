"""The objective: pure functions of tensors from scores to the loss of an effective batch."""
