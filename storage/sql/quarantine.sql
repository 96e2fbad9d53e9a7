-- What could not be stored, and what became of it.

-- Keeps a message that could not be stored, once however often it is delivered. With p_resolves
-- it is a row that was tried again: one more attempt, and what is known of it by now.
DROP FUNCTION IF EXISTS quarantine_stanza(
    text, text, text, text, text, text, bytea, bytea, timestamptz);
DROP FUNCTION IF EXISTS quarantine_stanza(
    text, bigint, text, text, text, text, text, bytea, bytea, bytea, boolean, timestamptz);
CREATE FUNCTION quarantine_stanza(
    p_connection text, p_resolves bigint, p_fingerprint text, p_chat text, p_sender text,
    p_external_id text, p_error text, p_stanza bytea, p_raw bytea, p_kept bytea,
    p_opened boolean, p_now timestamptz
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
    IF p_resolves IS NOT NULL THEN
        UPDATE quarantine SET
            attempts = attempts + 1,
            error = p_error,
            last_attempt_at = p_now,
            chat = coalesce(p_chat, chat),
            sender = coalesce(p_sender, sender),
            external_id = coalesce(p_external_id, external_id),
            raw = CASE WHEN p_kept IS NULL THEN raw ELSE p_raw END,
            kept = coalesce(p_kept, kept),
            opened = opened OR p_opened
        WHERE connection_id = v_connection AND id = p_resolves AND resolved_at IS NULL;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    INSERT INTO quarantine (
        connection_id, fingerprint, chat, sender, external_id, error, stanza, raw, kept, opened,
        received_at, last_attempt_at)
    VALUES (v_connection, p_fingerprint, p_chat, p_sender, p_external_id, p_error, p_stanza,
        p_raw, p_kept, p_opened, p_now, p_now)
    ON CONFLICT (connection_id, fingerprint) DO UPDATE
        SET attempts = quarantine.attempts + 1, last_attempt_at = excluded.last_attempt_at
    RETURNING attempts = 1 INTO v_first;
    UPDATE counters SET quarantined = quarantined + v_first::integer
    WHERE connection_id = v_connection;
END
$$;

-- Applies one envelope that a quarantined row became, and marks that row resolved if it is not.
DROP FUNCTION IF EXISTS resolve_quarantined(
    text, bigint, jsonb, text[], bytea[], bytea[], bytea[], timestamptz);
CREATE FUNCTION resolve_quarantined(
    p_connection text, p_id bigint, p_batch jsonb, p_texts text[], p_raws bytea[],
    p_sealed bytea[], p_blobs bytea[], p_now timestamptz
) RETURNS TABLE (
    ord integer, verdict text, message_id bigint, conversation_id bigint,
    opened boolean, reopened boolean, filled boolean, retries integer, resolved boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_connection integer;
    v_applied record;
    v_resolved boolean;
BEGIN
    SELECT id INTO v_connection FROM connections WHERE name = p_connection;
    PERFORM FROM quarantine WHERE connection_id = v_connection AND id = p_id FOR UPDATE;
    SELECT * INTO v_applied FROM apply_batch(p_batch, p_texts, p_raws, p_sealed, p_blobs);
    UPDATE quarantine SET
        attempts = attempts + 1,
        last_attempt_at = p_now,
        resolved_at = p_now,
        resolution = coalesce(v_applied.verdict, 'recorded'),
        message_id = v_applied.message_id
    WHERE connection_id = v_connection AND id = p_id AND resolved_at IS NULL;
    v_resolved := FOUND;
    UPDATE counters SET quarantined = quarantined - 1
    WHERE connection_id = v_connection AND v_resolved;
    RETURN QUERY SELECT v_applied.ord, v_applied.verdict, v_applied.message_id,
        v_applied.conversation_id, v_applied.opened, v_applied.reopened, v_applied.filled,
        v_applied.retries, v_resolved;
END
$$;
