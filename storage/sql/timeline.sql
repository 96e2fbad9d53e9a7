-- Runs of the daemon: what the end of one left unsaid.

-- Begins a run. Connections that the run before left in some state of running get the transition
-- that it could not record, at the last moment at which it was surely alive.
CREATE OR REPLACE FUNCTION begin_life(p_now timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_last daemon_lives;
    v_life bigint;
BEGIN
    SELECT * INTO v_last FROM daemon_lives ORDER BY id DESC LIMIT 1;
    INSERT INTO connection_events (connection_id, at, previous, state, reason, sentence, retry)
        SELECT c.id,
            greatest(e.at, least(p_now, coalesce(
                v_last.ended_at, v_last.alive_at, n.last_message_at, e.at))),
            e.state, 'stopped',
            CASE WHEN v_last.ended_at IS NULL THEN 'daemon_died' ELSE 'shutdown' END,
            CASE WHEN v_last.ended_at IS NULL
                THEN 'the daemon was not running (it ended without a word)'
                ELSE 'the daemon stopped' END,
            e.retry
        FROM connections c
        JOIN counters n ON n.connection_id = c.id
        CROSS JOIN LATERAL (
            SELECT * FROM connection_events
            WHERE connection_id = c.id ORDER BY id DESC LIMIT 1
        ) e
        WHERE e.state NOT IN ('stopped', 'logged_out');
    INSERT INTO daemon_lives (began_at, alive_at) VALUES (p_now, p_now) RETURNING id INTO v_life;
    RETURN v_life;
END
$$;
