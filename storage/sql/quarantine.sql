-- What could not be stored.

-- Keeps a message that could not be stored, once however often it is delivered.
DROP FUNCTION IF EXISTS quarantine_stanza(
    text, text, text, text, text, text, bytea, bytea, timestamptz);
CREATE FUNCTION quarantine_stanza(
    p_connection text, p_fingerprint text, p_chat text, p_sender text, p_external_id text,
    p_error text, p_stanza bytea, p_raw bytea, p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_connection integer;
    v_first boolean;
BEGIN
    SELECT id INTO v_connection FROM connections WHERE name = p_connection;
    IF v_connection IS NULL THEN
        RAISE foreign_key_violation
            USING MESSAGE = 'unknown connection ' || quote_literal(p_connection);
    END IF;
    INSERT INTO quarantine (
        connection_id, fingerprint, chat, sender, external_id, error, stanza, raw,
        received_at, last_attempt_at)
    VALUES (v_connection, p_fingerprint, p_chat, p_sender, p_external_id, p_error, p_stanza,
        p_raw, p_now, p_now)
    ON CONFLICT (connection_id, fingerprint) DO UPDATE
        SET attempts = quarantine.attempts + 1, last_attempt_at = excluded.last_attempt_at
    RETURNING attempts = 1 INTO v_first;
    UPDATE counters SET quarantined = quarantined + v_first::integer
    WHERE connection_id = v_connection;
END
$$;
