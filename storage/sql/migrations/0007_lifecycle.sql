-- When a state ends by itself: the expiry of a ban, which outlives a restart of the daemon.

ALTER TABLE connection_events ADD COLUMN until timestamptz;
