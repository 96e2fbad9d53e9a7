"""``zapvisor demo``: the whole thing at work on one machine, and the proof that it works."""
