-- The statements of PostgresEvents, loaded by name.

-- name: events_after
-- The next events that fit, of a bounded number; in one snapshot with the cursors there are.
WITH page AS MATERIALIZED (
    SELECT * FROM events WHERE id > $1 ORDER BY id LIMIT $2
)
SELECT h.forgotten, n.newest, p.position, e.id, e.at, e.type, e.connection, e.data::text
FROM event_horizon h
CROSS JOIN (SELECT max(id) AS newest FROM events) n
CROSS JOIN (SELECT max(id) AS position FROM page) p
LEFT JOIN LATERAL (
    SELECT * FROM page
    WHERE ($4::text IS NULL OR connection = $4) AND ($5::text[] IS NULL OR type = ANY ($5))
    ORDER BY id LIMIT $3
) e ON true
ORDER BY e.id;

-- name: event_range
-- The oldest and the newest cursor.
SELECT h.forgotten, greatest(h.forgotten, (SELECT max(id) FROM events)) AS newest
FROM event_horizon h;

-- name: append_event
-- An event that no row tells.
SELECT put_event($1, $2, $3::text::jsonb);

-- name: trim_events
-- Delete the oldest events, what waits at webhooks of them, and remember how far.
WITH old AS (
    SELECT id FROM (SELECT id, at FROM events ORDER BY id LIMIT $2) o WHERE o.at < $1
), gone AS (
    DELETE FROM events WHERE id IN (SELECT id FROM old) RETURNING id
), undelivered AS (
    DELETE FROM webhook_deliveries WHERE event_id IN (SELECT id FROM old) RETURNING consumer
), counted AS (
    UPDATE event_consumers c SET lost = c.lost + u.lost
    FROM (SELECT consumer, count(*) AS lost FROM undelivered GROUP BY consumer) u
    WHERE c.name = u.consumer
)
UPDATE event_horizon SET forgotten = greatest(forgotten, g.last)
FROM (SELECT max(id) AS last, count(*) AS events FROM gone) g
WHERE g.events > 0
RETURNING g.events;

-- name: follow
-- A consumer; a new one starts behind the newest event.
WITH made AS (
    INSERT INTO event_consumers (name, position)
    SELECT $1, greatest(h.forgotten, (SELECT max(id) FROM events)) FROM event_horizon h
    ON CONFLICT (name) DO NOTHING
    RETURNING *
)
SELECT * FROM made UNION ALL SELECT * FROM event_consumers WHERE name = $1 LIMIT 1;

-- name: consumers
-- All consumers.
SELECT * FROM event_consumers ORDER BY name COLLATE "C";

-- name: advance
-- A consumer has come further.
UPDATE event_consumers SET position = greatest(position, $2), delivered = delivered + $3,
    lost = lost + $4, succeeded_at = CASE WHEN $3 > 0 THEN $5 ELSE succeeded_at END
WHERE name = $1;

-- name: rewind
-- A consumer is to read again.
UPDATE event_consumers SET position = least(position, $2) WHERE name = $1;

-- name: pause_consumer
-- A consumer waits, or goes on.
UPDATE event_consumers SET paused = $2 WHERE name = $1;

-- name: take_deliveries
-- Make deliveries of the next events, as far as there is room, and move past them. Lanes that fail
-- take no room of the others, up to a bound on all.
WITH consumer AS (
    SELECT c.name, greatest(c.position, h.forgotten) AS position, c.position < h.forgotten AS late
    FROM event_consumers c CROSS JOIN event_horizon h
    WHERE c.name = $1
    FOR UPDATE OF c
), room AS (
    SELECT least($4, greatest(0,
        least($5 - count(*) FILTER (WHERE NOT failing), $6 * $5 - count(*)))) AS places
    FROM (
        SELECT bool_or(attempts > 0) OVER (PARTITION BY lane) AS failing FROM webhook_deliveries
        WHERE consumer = $1 AND state = 'pending'
    ) w
), page AS MATERIALIZED (
    SELECT e.id, e.type, e.connection FROM events e
    WHERE e.id > (SELECT position FROM consumer)
    ORDER BY e.id LIMIT (SELECT places FROM room)
), taken AS (
    INSERT INTO webhook_deliveries AS d (consumer, event_id, lane)
    SELECT $1, p.id, coalesce(p.connection, '') FROM page p
    WHERE ($2::text[] IS NULL OR p.type = ANY ($2))
      AND ($3::text[] IS NULL OR p.connection IS NULL OR p.connection = ANY ($3))
    ON CONFLICT (consumer, event_id) DO UPDATE  -- they were rewound over what is dead
    SET state = 'pending', attempts = 0, next_attempt_at = NULL WHERE d.state = 'dead'
)
UPDATE event_consumers c SET position = greatest(n.position, (SELECT max(id) FROM page)),
    lost = c.lost + n.late::integer
FROM consumer n WHERE c.name = n.name
RETURNING (SELECT count(*) FROM page) AS events;

-- name: due_deliveries
-- What lanes whose first delivery is due have to deliver. What is due after $3 was dated by a
-- clock that was wrong: nothing is put off for so long.
WITH heads AS (
    SELECT DISTINCT ON (lane) lane, event_id, next_attempt_at FROM webhook_deliveries
    WHERE consumer = $1 AND state = 'pending' ORDER BY lane, event_id
), due AS (
    SELECT lane, event_id FROM heads
    WHERE (next_attempt_at IS NULL OR next_attempt_at <= $2 OR next_attempt_at > $3)
      AND lane <> ALL ($4::text[])
    ORDER BY event_id LIMIT $5
)
SELECT d.event_id, d.lane, d.state, d.attempts, d.next_attempt_at, d.last_attempt_at, d.status,
    d.error, e.id, e.at, e.type, e.connection, e.data::text
FROM due
CROSS JOIN LATERAL (
    SELECT * FROM webhook_deliveries w
    WHERE w.consumer = $1 AND w.lane = due.lane AND w.state = 'pending'
    ORDER BY w.event_id LIMIT $6
) d
LEFT JOIN events e ON e.id = d.event_id
ORDER BY due.event_id, d.event_id;

-- name: settle_deliveries
-- What became of some deliveries.
WITH gone AS (
    DELETE FROM webhook_deliveries
    WHERE consumer = $1 AND event_id = ANY ($2::bigint[] || $3::bigint[]) AND state = 'pending'
    RETURNING event_id
), failed AS (
    UPDATE webhook_deliveries SET attempts = attempts + 1, last_attempt_at = $4,
        status = $6, error = $7, next_attempt_at = $8,
        state = CASE WHEN $8::timestamptz IS NULL THEN 'dead' ELSE 'pending' END
    WHERE consumer = $1 AND event_id = $5
)
UPDATE event_consumers SET
    delivered = delivered + (SELECT count(*) FROM gone WHERE event_id = ANY ($2)),
    lost = lost + (SELECT count(*) FROM gone WHERE event_id = ANY ($3)),
    succeeded_at = CASE WHEN cardinality($2) > 0 THEN $4 ELSE succeeded_at END,
    error = CASE WHEN $5::bigint IS NULL THEN error ELSE $7 END,
    failed_at = CASE WHEN $5::bigint IS NULL THEN failed_at ELSE $4 END
WHERE name = $1;

-- name: deliveries
-- Deliveries with their events, the oldest first.
SELECT d.event_id, d.lane, d.state, d.attempts, d.next_attempt_at, d.last_attempt_at, d.status,
    d.error, e.id, e.at, e.type, e.connection, e.data::text
FROM webhook_deliveries d
LEFT JOIN events e ON e.id = d.event_id
WHERE d.consumer = $1 AND ($2::text IS NULL OR d.state = $2) AND d.event_id > $3
ORDER BY d.event_id LIMIT $4;

-- name: delivery_counts
-- How many wait, and how many are dead; and when the first lane is due, unless one is at once.
WITH heads AS (
    SELECT DISTINCT ON (lane) next_attempt_at FROM webhook_deliveries
    WHERE consumer = $1 AND state = 'pending' ORDER BY lane, event_id
)
SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
    count(*) FILTER (WHERE state = 'dead') AS dead,
    count(*) FILTER (WHERE state = 'pending' AND attempts > 0) AS retrying,
    (SELECT CASE WHEN bool_and(next_attempt_at IS NOT NULL) THEN min(next_attempt_at) END
     FROM heads) AS next_attempt_at
FROM webhook_deliveries WHERE consumer = $1;

-- name: redeliver_dead
-- Another life for all dead deliveries.
UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_attempt_at = NULL
WHERE consumer = $1 AND state = 'dead'
RETURNING event_id;

-- name: redeliver_event
-- Deliver one event, again if need be.
INSERT INTO webhook_deliveries AS d (consumer, event_id, lane)
SELECT $1, id, coalesce(connection, '') FROM events WHERE id = $2
ON CONFLICT (consumer, event_id) DO UPDATE
    SET state = 'pending', attempts = 0, next_attempt_at = NULL
RETURNING event_id;
