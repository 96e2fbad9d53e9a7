-- Telling operators: a notification and its deliveries commit with the change that they tell of.

CREATE OR REPLACE FUNCTION severity_rank(p_severity text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT array_position(ARRAY['info', 'warning', 'critical'], p_severity)
$$;

-- Queue notifications for the channels that take them, in the transaction of the caller; those
-- whose key is known make no second one. The argument is an array of objects as
-- storage.notifications.encode_notifications writes them. Returns the ids of the new ones.
CREATE OR REPLACE FUNCTION enqueue_notifications(p_notifications jsonb)
RETURNS SETOF bigint LANGUAGE sql VOLATILE AS $$
    WITH told AS MATERIALIZED (
        SELECT DISTINCT ON (n.key) n.* FROM ROWS FROM (jsonb_to_recordset(p_notifications) AS (
            key text, kind text, connection text, severity text, subject text, text text,
            html text, translations jsonb, data jsonb, channels text[], told text[], whom text[]
        )) WITH ORDINALITY n
        ORDER BY n.key, n.ordinality
    ), made AS (
        INSERT INTO notifications
            (key, kind, connection, severity, subject, text, html, translations, data)
        SELECT key, kind, connection, severity, subject, text, html, translations, data
        FROM told ORDER BY ordinality
        ON CONFLICT (key) DO NOTHING
        RETURNING id, key
    ), queued AS (
        INSERT INTO notification_deliveries (channel, notification_id, state, attempts, sent_at)
        SELECT c.name, m.id, CASE WHEN s.already THEN 'sent' ELSE 'pending' END,
            s.already::integer, CASE WHEN s.already THEN clock_timestamp() END
        FROM made m
        JOIN told n ON n.key = m.key
        JOIN notification_channels c ON c.active AND CASE
            WHEN n.channels IS NOT NULL THEN c.name = ANY (n.channels)
            ELSE n.kind = ANY (c.kinds) AND severity_rank(n.severity) >= severity_rank(c.severity)
                AND (c.connections IS NULL OR n.whom IS NULL OR n.whom && c.connections)
            END
        CROSS JOIN LATERAL (SELECT c.name = ANY (n.told) AS already) s
    )
    SELECT id FROM made ORDER BY id
$$;
