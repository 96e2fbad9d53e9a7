-- How new the keys are: see storage/epochs.py.

-- A daemon begins to use the database. p_id and p_epoch are what its data directory remembers of
-- the last one that it used. If that was this one, further on, all keys are older than what the
-- phones know: they are marked, and stay marked until somebody accepts it. Once: what is linked
-- after that has new keys.
CREATE OR REPLACE FUNCTION begin_epoch(
    p_id text, p_epoch bigint, p_now timestamptz,
    OUT id text, OUT epoch bigint, OUT behind boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO database_epoch DEFAULT VALUES ON CONFLICT DO NOTHING;
    SELECT e.id::text, e.epoch INTO id, epoch FROM database_epoch e FOR UPDATE;
    behind := coalesce(p_id = id AND p_epoch > epoch, false);
    IF behind AND NOT EXISTS (SELECT FROM stale_keys s WHERE s.expected >= p_epoch) THEN
        INSERT INTO stale_keys AS s (connection_id, found_at, expected)
        SELECT d.connection_id, p_now, p_epoch FROM device_identity d
        ON CONFLICT (connection_id) DO UPDATE
            SET expected = p_epoch, accepted_at = NULL;
    END IF;
END
$$;

-- One more step; no row while older keys are there that nobody has accepted: the newer database,
-- put back, must not look older than this one. An older one in which no phone was linked has no
-- such keys, and becomes the newer one with the first phone that is.
CREATE OR REPLACE FUNCTION advance_epoch(p_id text, p_epoch bigint)
RETURNS TABLE (id text, epoch bigint) LANGUAGE sql AS $$
    UPDATE database_epoch e SET epoch = 1 + CASE p_id
        WHEN e.id::text THEN greatest(e.epoch, p_epoch) ELSE e.epoch END
    WHERE NOT EXISTS (SELECT FROM stale_keys s WHERE s.expected > e.epoch)
        AND (p_id IS DISTINCT FROM e.id::text OR p_epoch <= e.epoch
            OR EXISTS (SELECT FROM device_identity))
    RETURNING e.id::text, e.epoch
$$;

-- Somebody accepts that the keys are older: what could be used twice goes. Messages that waited to
-- be sent have been sent by now, for all that is known.
CREATE OR REPLACE FUNCTION renew_keys(
    p_connection text, p_sealed bytea, p_own text[], p_reason text, p_now timestamptz
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_connection integer;
BEGIN
    UPDATE stale_keys s SET accepted_at = p_now
    FROM connections c
    WHERE c.name = p_connection AND s.connection_id = c.id
    RETURNING s.connection_id INTO v_connection;
    IF v_connection IS NULL THEN
        RETURN false;
    END IF;
    DELETE FROM signal_sessions WHERE connection_id = v_connection;
    DELETE FROM signal_sender_keys
    WHERE connection_id = v_connection
        AND regexp_replace(key, '^.*::', '') = ANY (p_own || ARRAY['distributed']);
    UPDATE device_identity SET sealed = p_sealed, updated_at = p_now
    WHERE connection_id = v_connection;
    UPDATE outbox SET state = 'unknown', reason = p_reason, updated_at = p_now
    WHERE connection_id = v_connection AND state IN ('queued', 'sending');
    RETURN true;
END
$$;

-- From then on the newer database is the older one.
CREATE OR REPLACE FUNCTION leave_old_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE database_epoch SET epoch = greatest(epoch, OLD.expected + 1);
    RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS accepted ON stale_keys;
CREATE TRIGGER accepted AFTER UPDATE OF accepted_at ON stale_keys
    FOR EACH ROW WHEN (OLD.accepted_at IS NULL AND NEW.accepted_at IS NOT NULL)
    EXECUTE FUNCTION leave_old_epoch();
DROP TRIGGER IF EXISTS deleted ON stale_keys;
CREATE TRIGGER deleted AFTER DELETE ON stale_keys
    FOR EACH ROW EXECUTE FUNCTION leave_old_epoch();
