"""What a run tells while it goes: the event log and the screen. A leaf that receives events."""
