-- Alerts: a change of one, what people are told of it, and its event commit together.

DROP FUNCTION IF EXISTS save_alerts(jsonb);

-- Applies changes of alerts, in their order; those that were applied before change nothing. Then
-- all notifications of those that are new, then all events: see events.sql for the lock.
CREATE FUNCTION save_alerts(p_changes jsonb)
RETURNS TABLE (alert_key text, alert_id bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_next record;
    v_id bigint;
    v_notifications jsonb := '[]';
    v_events jsonb := '[]';
BEGIN
    FOR v_next IN
        SELECT c.*, o.change FROM jsonb_array_elements(p_changes) WITH ORDINALITY AS o (change, ord)
        CROSS JOIN LATERAL jsonb_to_record(o.change) AS c (
            what text, key text, step integer, rule text, severity text, connection text,
            of_connections boolean, subjects text[], others bigint, cause text,
            since timestamptz, fired_at timestamptz, last_seen timestamptz,
            resolved_at timestamptz, acknowledged_at timestamptz, acknowledged_by text,
            notified_at timestamptz, times bigint, told text[], sentence text, detail text,
            facts jsonb, notification jsonb, event jsonb)
        ORDER BY o.ord
    LOOP
        INSERT INTO alerts AS a (key, step, rule, severity, connection, of_connections, subjects,
            others, cause, since, fired_at, last_seen, resolved_at, acknowledged_at,
            acknowledged_by, notified_at, times, told, sentence, detail, facts)
        VALUES (v_next.key, v_next.step, v_next.rule, v_next.severity, v_next.connection,
            v_next.of_connections, v_next.subjects, v_next.others, v_next.cause, v_next.since,
            v_next.fired_at, v_next.last_seen, v_next.resolved_at, v_next.acknowledged_at,
            v_next.acknowledged_by, v_next.notified_at, v_next.times, v_next.told,
            v_next.sentence, v_next.detail, v_next.facts)
        ON CONFLICT (key) DO UPDATE SET step = excluded.step, connection = excluded.connection,
            subjects = excluded.subjects, others = excluded.others, last_seen = excluded.last_seen,
            resolved_at = excluded.resolved_at, acknowledged_at = excluded.acknowledged_at,
            acknowledged_by = excluded.acknowledged_by, notified_at = excluded.notified_at,
            times = excluded.times, told = excluded.told, sentence = excluded.sentence,
            detail = excluded.detail, facts = excluded.facts
            WHERE a.step < excluded.step
        RETURNING a.id INTO v_id;
        IF FOUND THEN
            IF jsonb_typeof(v_next.notification) = 'object' THEN
                v_notifications := v_notifications || v_next.notification;
            END IF;
            IF jsonb_typeof(v_next.event) = 'object' THEN
                v_events := v_events || jsonb_build_object('type', 'alert.' || v_next.what,
                    'connection', v_next.connection,
                    'data', jsonb_build_object('alert_id', v_id) || v_next.event);
            END IF;
        ELSE
            SELECT a.id INTO v_id FROM alerts a WHERE a.key = v_next.key;
        END IF;
        alert_key := v_next.key;
        alert_id := v_id;
        RETURN NEXT;
    END LOOP;
    PERFORM enqueue_notifications(v_notifications);
    PERFORM put_event(e ->> 'type', e ->> 'connection', e -> 'data')
    FROM jsonb_array_elements(v_events) WITH ORDINALITY AS o (e, ord) ORDER BY ord;
END
$$;
