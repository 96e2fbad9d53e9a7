-- The statements of PostgresReports, loaded by name. A day is from $1 on and before $2.
--
-- Messages have no index on their time, which the writer would have to pay for. They are found by
-- their conversations: a live message is never later than its conversation's last_message_at, so
-- those of a day are in conversations that had a message since. The index messages_conversation
-- then leads to the messages of that day alone.

-- name: report_messages
-- Live messages of a day and their files, by connection and hour ($3: when each begins).
SELECT c.name AS connection, width_bucket(m.sent_at, $3::timestamptz[]) AS hour,
    count(*) FILTER (WHERE NOT m.from_me) AS received, count(*) FILTER (WHERE m.from_me) AS sent,
    count(*) FILTER (WHERE m.state = 'undecryptable') AS undecryptable,
    count(*) FILTER (WHERE f.state IN ('stored', 'removed')) AS files,
    coalesce(sum(f.blob_size) FILTER (WHERE f.state IN ('stored', 'removed')), 0)::bigint AS bytes,
    count(*) FILTER (WHERE f.state IN ('failed', 'expired')) AS failed
FROM connections c
JOIN conversations v ON v.connection_id = c.id AND v.last_message_at >= $1
JOIN messages m ON m.connection_id = v.connection_id AND m.conversation_id = v.id
    AND m.sent_at >= $1 AND m.sent_at < $2 AND m.lane = 'live'
LEFT JOIN media f ON f.connection_id = m.connection_id AND f.message_id = m.id
GROUP BY 1, 2 ORDER BY 1, 2;

-- name: report_responses
-- How long customers waited for a first answer, in seconds: of direct chats' conversations whose
-- first live message of the customer is of that day. By connection, and NULL for all together.
WITH written AS (
    SELECT DISTINCT ON (m.connection_id, m.conversation_id)
        m.connection_id, m.conversation_id, m.sent_at, m.arrival
    FROM conversations v
    JOIN chats k ON k.connection_id = v.connection_id AND k.id = v.chat_id AND k.kind = 'direct'
    JOIN messages m ON m.connection_id = v.connection_id AND m.conversation_id = v.id
        AND m.sent_at >= $1 AND m.sent_at < $2 AND m.lane = 'live' AND NOT m.from_me
    WHERE v.last_message_at >= $1
    ORDER BY m.connection_id, m.conversation_id, m.sent_at, m.arrival
), waited AS (
    SELECT w.connection_id, extract(epoch FROM a.sent_at - w.sent_at)::float8 AS seconds
    FROM written w
    LEFT JOIN LATERAL (
        SELECT m.sent_at FROM messages m
        WHERE m.connection_id = w.connection_id AND m.conversation_id = w.conversation_id
            AND (m.sent_at, m.arrival) > (w.sent_at, w.arrival) AND m.lane = 'live' AND m.from_me
        ORDER BY m.sent_at, m.arrival LIMIT 1
    ) a ON true
    WHERE NOT EXISTS (
        SELECT FROM messages m
        WHERE m.connection_id = w.connection_id AND m.conversation_id = w.conversation_id
            AND m.sent_at < $1 AND m.lane = 'live' AND NOT m.from_me)
)
SELECT c.name AS connection, count(*) AS conversations, count(w.seconds) AS answered,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY w.seconds) AS median,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY w.seconds) AS ninetieth
FROM waited w
JOIN connections c ON c.id = w.connection_id
GROUP BY GROUPING SETS ((c.name), ()) ORDER BY 1;

-- name: report_conversations
-- Conversations opened, reopened and closed from one quarter of an hour to another.
SELECT c.name AS connection, sum(q.opened)::bigint AS opened, sum(q.reopened)::bigint AS reopened,
    sum(q.closed)::bigint AS closed
FROM connections c
JOIN conversation_quarters q ON q.connection_id = c.id AND q.quarter >= $1 AND q.quarter < $2
GROUP BY 1 ORDER BY 1;

-- name: report_waiting
-- Conversations that wait now, and since when the first of them does.
SELECT c.name AS connection, n.waiting, w.since
FROM connections c
JOIN counters n ON n.connection_id = c.id
CROSS JOIN LATERAL (
    SELECT min(greatest(v.opened_at, v.reopened_at)) AS since FROM conversations v
    WHERE v.connection_id = c.id AND v.status <> 'closed' AND v.status = 'waiting'
) w
WHERE n.waiting > 0 ORDER BY 1;

-- name: report_gaps
-- The gaps that began on a day, as they are counted by now.
SELECT c.name AS connection, count(*) AS gaps, coalesce(sum(g.announced), 0)::bigint AS announced,
    sum(CASE WHEN g.resolution IS DISTINCT FROM 'accepted' THEN g.missing ELSE 0 END)::bigint
        AS missing,
    count(*) FILTER (WHERE g.closed_at IS NULL) AS open
FROM connections c
JOIN gaps g ON g.connection_id = c.id AND g.from_at >= $1 AND g.from_at < $2
GROUP BY 1 ORDER BY 1;

-- name: report_transitions
-- Transitions that decide what a day was: from the last one before it that came online, which
-- settles what the next ones mean (see actors/uptime.py), up to the last one in it. Of tries in a
-- row only the first: a connection that fails for months has many. At most $5, after the
-- connection $3 and its transition $4.
SELECT e.connection_id, c.name AS connection, e.id, e.at, e.state, e.reason
FROM connections c
CROSS JOIN LATERAL (
    SELECT coalesce(min(f.id), 9223372036854775807) AS id FROM connection_events f
    WHERE f.connection_id = c.id AND f.at > $1
) later
CROSS JOIN LATERAL (
    SELECT coalesce(max(f.id), 0) AS id FROM connection_events f
    WHERE f.connection_id = c.id AND f.id < later.id AND f.state = 'online'
) first
CROSS JOIN LATERAL (
    SELECT coalesce(max(f.id), later.id - 1) AS id FROM connection_events f
    WHERE f.connection_id = c.id AND f.at > $1 AND f.at < $2
) last
CROSS JOIN LATERAL (
    SELECT r.* FROM (
        SELECT f.connection_id, f.id, f.at, f.state, f.reason,
            t.trying AND lag(t.trying, 1, false) OVER (ORDER BY f.id) AS repeated
        FROM connection_events f
        CROSS JOIN LATERAL (
            SELECT f.state IN ('connecting', 'syncing', 'backoff', 'parked')
                AND f.reason <> 'fence' AS trying) t
        WHERE f.connection_id = c.id AND f.id BETWEEN first.id AND last.id
    ) r
    WHERE NOT r.repeated AND (c.id > $3::integer OR r.id > $4::bigint)
    ORDER BY r.id LIMIT $5
) e
WHERE c.id >= $3
ORDER BY e.connection_id, e.id LIMIT $5;

-- name: report_connections
-- Which connections there are, and since when.
SELECT name, created_at FROM connections ORDER BY name;

-- name: save_report
-- See reports.sql.
SELECT save_report($1, $2, $3, $4::jsonb);

-- name: last_report
-- The newest day that was reported.
SELECT max(day) AS day FROM reports;

-- name: forget_conversation_quarters
-- Sums of quarters of an hour that are too old ($1), some at a time.
DELETE FROM conversation_quarters s
USING (
    SELECT q.connection_id, q.quarter FROM connections c
    CROSS JOIN LATERAL (
        SELECT o.connection_id, o.quarter FROM conversation_quarters o
        WHERE o.connection_id = c.id AND o.quarter < $1::bigint ORDER BY o.quarter LIMIT $2
    ) q
    LIMIT $2
) old
WHERE s.connection_id = old.connection_id AND s.quarter = old.quarter
RETURNING s.quarter;

-- name: forget_reports
-- Days that were reported too long ago; never the newest.
DELETE FROM reports
WHERE day IN (
    SELECT day FROM reports
    WHERE made_at < $1 AND day < (SELECT max(day) FROM reports)
    ORDER BY day LIMIT $2)
RETURNING day;
