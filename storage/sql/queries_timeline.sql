-- The statements of PostgresTimeline, loaded by name.

-- name: begin_life
-- A run of the daemon begins: see timeline.sql.
SELECT begin_life($1);

-- name: mark_alive
-- The daemon is alive; a clock that was set back does not take the mark back.
UPDATE daemon_lives SET alive_at = greatest(alive_at, $2) WHERE id = $1;

-- name: end_life
-- The daemon stops in order.
UPDATE daemon_lives SET alive_at = greatest(alive_at, $2), ended_at = greatest(alive_at, $2)
WHERE id = $1;

-- name: timeline
-- Transitions of a connection in their order.
SELECT e.id, e.at, e.previous, e.state, e.reason, e.sentence, e.retry
FROM connection_events e
JOIN connections c ON c.id = e.connection_id
WHERE c.name = $1 AND e.id > $2
ORDER BY e.id LIMIT $3;

-- name: timeline_start
-- The transition before the first one since a moment, or the newest of all.
SELECT coalesce(max(e.id), 0) AS id
FROM connection_events e
JOIN connections c ON c.id = e.connection_id
WHERE c.name = $1 AND e.id < coalesce(
    (SELECT min(f.id) FROM connection_events f WHERE f.connection_id = c.id AND f.at >= $2),
    9223372036854775807);

-- name: forget_events
-- Transitions that are too old, some at a time; the newest of each connection stays.
DELETE FROM connection_events e
USING (
    SELECT o.connection_id, o.id
    FROM connections c
    CROSS JOIN LATERAL (
        SELECT f.connection_id, f.id FROM connection_events f
        WHERE f.connection_id = c.id AND f.at < $1
            AND f.id < (SELECT max(g.id) FROM connection_events g WHERE g.connection_id = c.id)
        ORDER BY f.at LIMIT $2
    ) o
    LIMIT $2
) old
WHERE e.connection_id = old.connection_id AND e.id = old.id
RETURNING e.id;

-- name: forget_sync
-- Statistics that are too old, some at a time.
DELETE FROM sync_stats s
USING (
    SELECT o.connection_id, o.id
    FROM connections c
    CROSS JOIN LATERAL (
        SELECT f.connection_id, f.id FROM sync_stats f
        WHERE f.connection_id = c.id AND f.at < $1 ORDER BY f.at LIMIT $2
    ) o
    LIMIT $2
) old
WHERE s.connection_id = old.connection_id AND s.id = old.id
RETURNING s.id;

-- name: forget_lives
-- Runs of the daemon that ended too long ago; never the newest.
DELETE FROM daemon_lives
WHERE id IN (
    SELECT id FROM daemon_lives
    WHERE alive_at < $1 AND id < (SELECT max(id) FROM daemon_lives)
    ORDER BY id LIMIT $2)
RETURNING id;
