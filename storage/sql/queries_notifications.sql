-- The statements of PostgresNotifications, loaded by name.

-- name: enqueue_notifications
-- Queue notifications; the ids of those that are new.
SELECT * FROM enqueue_notifications($1::jsonb);

-- name: set_channels
-- Which channels there are, and what they take; others are kept for their figures.
WITH wanted AS MATERIALIZED (
    SELECT w.* FROM jsonb_to_recordset($1::jsonb)
        AS w (name text, kinds text[], severity text, connections text[])
), dropped AS (
    UPDATE notification_channels SET active = false
    WHERE active AND name NOT IN (SELECT name FROM wanted)
)
INSERT INTO notification_channels AS c (name, active, kinds, severity, connections)
SELECT name, true, kinds, severity, connections FROM wanted
ON CONFLICT (name) DO UPDATE SET active = true, kinds = excluded.kinds,
    severity = excluded.severity, connections = excluded.connections
WHERE (c.active, c.kinds, c.severity, c.connections)
    IS DISTINCT FROM (true, excluded.kinds, excluded.severity, excluded.connections);

-- name: release_notifications
-- Have those tried again at once that were being sent: whoever sent them is gone.
UPDATE notification_deliveries SET state = 'failed', next_attempt_at = NULL, error = $1
WHERE state = 'sending';

-- name: abandon_notifications
-- Give up what is too old to be told, and what waits for channels that are gone; how many.
WITH gone AS (
    UPDATE notification_deliveries d SET state = 'given_up', next_attempt_at = NULL,
        error = CASE WHEN c.active THEN $2 ELSE $3 END
    FROM notification_channels c, notifications n
    WHERE d.state IN ('pending', 'sending', 'failed') AND c.name = d.channel
      AND n.id = d.notification_id AND (NOT c.active OR n.created_at < $1)
    RETURNING d.channel
), counted AS (
    UPDATE notification_channels c SET given_up = c.given_up + g.number
    FROM (SELECT channel, count(*) AS number FROM gone GROUP BY channel) g
    WHERE c.name = g.channel
)
SELECT count(*) FROM gone;

-- name: claim_notification
-- The first one that a channel has not told, if it is due: it is being sent from now on, until
-- $4. What is due after $3 was dated by a clock that was wrong.
WITH head AS (
    SELECT channel, notification_id FROM notification_deliveries
    WHERE channel = $1 AND state IN ('pending', 'sending', 'failed')
    ORDER BY notification_id LIMIT 1
), claimed AS (
    UPDATE notification_deliveries d
    SET state = 'sending', attempts = d.attempts + 1, next_attempt_at = $4
    FROM head h
    WHERE d.channel = h.channel AND d.notification_id = h.notification_id
      AND (d.next_attempt_at IS NULL OR d.next_attempt_at <= $2 OR d.next_attempt_at > $3)
    RETURNING d.notification_id, d.attempts
)
SELECT n.id, n.key, n.kind, n.connection, n.severity, n.subject, n.text, n.html,
    n.translations::text, n.data::text, n.created_at, c.attempts
FROM claimed c JOIN notifications n ON n.id = c.notification_id;

-- name: settle_notification
-- What came of an attempt ($3): sent ($4 NULL), to be tried again at $5, or given up. An attempt
-- that was settled already counts once.
WITH settled AS (
    UPDATE notification_deliveries SET error = $4, next_attempt_at = $5,
        state = CASE WHEN $4::text IS NULL THEN 'sent'
                     WHEN $5::timestamptz IS NULL THEN 'given_up' ELSE 'failed' END,
        sent_at = CASE WHEN $4 IS NULL THEN $6::timestamptz END
    WHERE channel = $1 AND notification_id = $2 AND state = 'sending' AND attempts = $3
    RETURNING state
)
UPDATE notification_channels c SET
    sent = c.sent + (s.state = 'sent')::integer,
    failed = c.failed + (s.state <> 'sent')::integer,
    given_up = c.given_up + (s.state = 'given_up')::integer,
    sent_at = CASE WHEN s.state = 'sent' THEN $6 ELSE c.sent_at END,
    failed_at = CASE WHEN s.state <> 'sent' THEN $6 ELSE c.failed_at END,
    failing_since = CASE WHEN s.state <> 'sent' THEN coalesce(c.failing_since, $6) END,
    error = coalesce($4, c.error)
FROM settled s WHERE c.name = $1;

-- name: count_sent
-- What was sent, or failed ($2), past the queue.
UPDATE notification_channels SET
    sent = sent + ($2::text IS NULL)::integer,
    failed = failed + ($2 IS NOT NULL)::integer,
    sent_at = CASE WHEN $2 IS NULL THEN $3::timestamptz ELSE sent_at END,
    failed_at = CASE WHEN $2 IS NOT NULL THEN $3 ELSE failed_at END,
    failing_since = CASE WHEN $2 IS NOT NULL THEN coalesce(failing_since, $3) END,
    error = coalesce($2, error)
WHERE name = $1;

-- name: hurry_notifications
-- Try at once what has failed.
UPDATE notification_deliveries SET next_attempt_at = NULL
WHERE channel = $1 AND state = 'failed';

-- name: channels
-- All channels that ever were, with what waits.
SELECT c.name, c.active, c.sent, c.failed, c.given_up, c.sent_at, c.failed_at,
    c.failing_since, c.error, w.pending, w.retrying, w.oldest_at, w.next_attempt_at
FROM notification_channels c
CROSS JOIN LATERAL (
    SELECT count(*) AS pending, count(*) FILTER (WHERE d.state = 'failed') AS retrying,
        min(n.created_at) AS oldest_at,
        min(d.next_attempt_at) FILTER (WHERE d.state = 'failed') AS next_attempt_at
    FROM notification_deliveries d JOIN notifications n ON n.id = d.notification_id
    WHERE d.channel = c.name AND d.state IN ('pending', 'sending', 'failed')
) w
ORDER BY c.name;

-- name: trim_notifications
-- Delete the oldest notifications, with their deliveries.
WITH gone AS (
    DELETE FROM notifications WHERE id IN (
        SELECT id FROM notifications WHERE created_at < $1 ORDER BY id LIMIT $2)
    RETURNING id
)
SELECT count(*) FROM gone;
