-- The statements of PostgresAlerts, loaded by name.

-- name: save_alerts
-- Changes of alerts, with what people are told and the events.
SELECT alert_key, alert_id FROM save_alerts($1::jsonb);

-- name: active_alerts
-- Those that are not resolved.
SELECT id, key, step, rule, severity, of_connections, subjects, others, cause, since, fired_at,
    last_seen, resolved_at, acknowledged_at, acknowledged_by, notified_at, times, told, sentence,
    detail, facts::text
FROM alerts WHERE resolved_at IS NULL ORDER BY id;

-- name: past_alerts
-- All of them, the newest first, those before $1.
SELECT id, key, step, rule, severity, of_connections, subjects, others, cause, since, fired_at,
    last_seen, resolved_at, acknowledged_at, acknowledged_by, notified_at, times, told, sentence,
    detail, facts::text
FROM alerts WHERE ($1::bigint IS NULL OR id < $1) ORDER BY id DESC LIMIT $2;

-- name: alert
-- One alert.
SELECT id, key, step, rule, severity, of_connections, subjects, others, cause, since, fired_at,
    last_seen, resolved_at, acknowledged_at, acknowledged_by, notified_at, times, told, sentence,
    detail, facts::text
FROM alerts WHERE id = $1;

-- name: touch_alerts
-- They still last.
UPDATE alerts SET last_seen = greatest(last_seen, $2) WHERE key = ANY ($1::text[]);

-- name: trim_alerts
-- Delete alerts that were resolved before $1, some at a time.
DELETE FROM alerts WHERE id IN (
    SELECT id FROM alerts WHERE resolved_at < $1 ORDER BY resolved_at LIMIT $2)
RETURNING id;

-- name: add_silence
-- A new silence.
INSERT INTO silences (connection, rule, why, made_by, begins_at, ends_at)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id, connection, rule, why, made_by, begins_at, ends_at;

-- name: silences
-- Those that end after $1, the newest first.
SELECT id, connection, rule, why, made_by, begins_at, ends_at FROM silences
WHERE ends_at > $1 ORDER BY id DESC LIMIT $2;

-- name: end_silence
-- End a silence now ($2), unless it is over.
UPDATE silences SET ends_at = greatest(begins_at, least(ends_at, $2)) WHERE id = $1
RETURNING id, connection, rule, why, made_by, begins_at, ends_at;

-- name: trim_silences
-- Delete silences that ended before $1, some at a time.
DELETE FROM silences WHERE id IN (
    SELECT id FROM silences WHERE ends_at < $1 ORDER BY ends_at LIMIT $2)
RETURNING id;

-- name: backlogs
-- What waits at each connection: messages from before $1 that cannot be read, up to 1000; gaps
-- whose outage was over before $2; and what was delivered since $3.
SELECT c.name AS connection, u.undecryptable, g.gaps, g.missing, s.delivered, s.errors
FROM connections c
CROSS JOIN LATERAL (
    SELECT count(*) AS undecryptable FROM (
        SELECT FROM messages m
        WHERE m.connection_id = c.id AND m.state = 'undecryptable' AND m.verdict IS NULL
          AND m.received_at < $1
        LIMIT 1000
    ) w
) u
CROSS JOIN LATERAL (
    SELECT count(*) AS gaps, coalesce(sum(missing), 0)::bigint AS missing FROM gaps o
    WHERE o.connection_id = c.id AND o.closed_at IS NULL AND o.to_at < $2
) g
CROSS JOIN LATERAL (
    SELECT coalesce(sum(total), 0)::bigint AS delivered, coalesce(sum(errors), 0)::bigint AS errors
    FROM sync_stats t WHERE t.connection_id = c.id AND t.at >= $3
) s
WHERE u.undecryptable > 0 OR g.gaps > 0 OR s.errors > 0
ORDER BY c.name COLLATE "C";

-- name: media_waiting
-- Files that wait to be fetched, up to 100,000.
SELECT count(*) AS waiting FROM (SELECT FROM media WHERE state = 'pending' LIMIT 100000) m;

-- name: phone_signs
-- When phones were last seen.
SELECT c.name, p.seen_at FROM phone_signs p JOIN connections c ON c.id = p.connection_id;

-- name: note_phone_signs
-- Phones were seen; an older sign does not replace a newer one.
INSERT INTO phone_signs AS p (connection_id, seen_at)
SELECT c.id, s.at FROM unnest($1::text[], $2::timestamptz[]) AS s (name, at)
JOIN connections c ON c.name = s.name
ON CONFLICT (connection_id) DO UPDATE SET seen_at = excluded.seen_at
WHERE p.seen_at < excluded.seen_at;
