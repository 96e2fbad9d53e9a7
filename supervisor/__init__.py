"""The generic supervision tree: child specs, restarts, mailboxes and pulses, in OTP words."""
