"""Stall detection on the live loss: false alarms on curves that still improve, delay on those that do not."""
