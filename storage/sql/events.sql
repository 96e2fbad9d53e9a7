-- The stream of events: every change that it tells of writes its event in its own transaction.
--
-- The order. Readers remember the id of the last event that they saw, so no event may become
-- visible after one with a higher id. Ids come from a sequence, which knows nothing of commits;
-- so whoever writes events takes one lock before the first id, and holds it until its COMMIT
-- is visible. Then the next one gets its ids. (A reader that waits until no older transaction
-- runs would do without the lock, but any transaction of anybody on the same server could hold
-- the stream up.) The lock is taken last, after all rows are locked, so it is held for the
-- COMMIT alone and no two transactions wait for each other: the triggers are deferred, and
-- apply_batch tells of its messages at its end.
--
-- Redeliveries and batches that are applied again change no row, so they make no event.

-- RFC 3339, whatever the time zone of the session.
CREATE OR REPLACE FUNCTION event_time(p_at timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- One event; its id.
CREATE OR REPLACE FUNCTION put_event(p_type text, p_connection text, p_data jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_id bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7377481550917955439);
    INSERT INTO events (type, connection, data) VALUES (p_type, p_connection, p_data)
    RETURNING id INTO v_id;
    RETURN v_id;
END
$$;

CREATE OR REPLACE FUNCTION tell_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM put_event('connection.state',
        (SELECT name FROM connections WHERE id = NEW.connection_id),
        jsonb_build_object('state', NEW.state, 'previous', NEW.previous, 'reason', NEW.reason,
            'sentence', NEW.sentence, 'retry', NEW.retry, 'since', event_time(NEW.at),
            'until', event_time(NEW.until)));
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION tell_life() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM put_event('daemon.started', NULL, jsonb_build_object('run', NEW.id));
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION tell_conversation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_type text := 'conversation.opened';
    v_previous text;
BEGIN
    IF TG_OP = 'INSERT' AND current_setting('zapvisor.importing', true) = 'on' THEN
        RETURN NULL;  -- out of an archive: no news
    END IF;
    IF TG_OP = 'UPDATE' THEN
        v_type := CASE WHEN NEW.reopened > OLD.reopened THEN 'conversation.reopened'
                       ELSE 'conversation.status' END;
        v_previous := OLD.status;
    END IF;
    PERFORM put_event(v_type, (SELECT name FROM connections WHERE id = NEW.connection_id),
        jsonb_build_object('conversation_id', NEW.id,
            'chat', (SELECT address FROM chats
                     WHERE connection_id = NEW.connection_id AND id = NEW.chat_id),
            'status', NEW.status, 'previous', v_previous, 'merged_into', NEW.merged_into));
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION tell_gap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM put_event(CASE TG_OP WHEN 'INSERT' THEN 'gap.opened' ELSE 'gap.closed' END,
        (SELECT name FROM connections WHERE id = NEW.connection_id),
        jsonb_build_object('gap_id', NEW.id, 'kind', NEW.kind, 'reason', NEW.reason,
            'from', event_time(NEW.from_at), 'to', event_time(NEW.to_at),
            'missing', NEW.missing, 'resolution', NEW.resolution));
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION tell_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM put_event('outbox.state',
        (SELECT name FROM connections WHERE id = NEW.connection_id),
        jsonb_build_object('outbox_id', NEW.id, 'external_id', NEW.external_id,
            'chat', NEW.chat, 'kind', NEW.kind, 'state', NEW.state,
            'previous', CASE TG_OP WHEN 'UPDATE' THEN OLD.state END, 'reason', NEW.reason));
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION tell_quarantine() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM put_event('message.quarantined',
        (SELECT name FROM connections WHERE id = NEW.connection_id),
        jsonb_build_object('quarantine_id', NEW.id, 'chat', NEW.chat,
            'external_id', NEW.external_id, 'verdict', 'quarantined'));
    RETURN NULL;
END
$$;

-- The message that an edit or a deletion changes, if it is there: one of the same author, or of
-- the one whom an admin names.
CREATE OR REPLACE FUNCTION change_target(
    p_connection integer, p_own bigint, p_chat bigint, p_sender bigint, p_kind text,
    p_target text, p_author text,
    OUT id bigint, OUT conversation_id bigint
) LANGUAGE sql STABLE AS $$
    SELECT m.id, m.conversation_id
    FROM (
        SELECT 1 AS ord, p_sender AS contact
        UNION ALL
        SELECT 2, a.contact_id FROM contact_addresses a
        WHERE p_kind = 'revoke' AND a.connection_id = p_connection AND a.address = p_author
    ) s
    CROSS JOIN LATERAL (
        SELECT m.id, m.conversation_id FROM messages m
        WHERE m.connection_id = p_connection AND m.chat_id = p_chat AND m.sender_id = s.contact
          AND m.external_id = p_target AND m.id <> p_own
        OFFSET 0
    ) m
    ORDER BY s.ord LIMIT 1
$$;

-- An encrypted change was opened.
CREATE OR REPLACE FUNCTION tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_target record;
BEGIN
    SELECT * INTO v_target FROM change_target(NEW.connection_id, NEW.id, NEW.chat_id,
        NEW.sender_id, NEW.kind, NEW.target_id, NEW.target_author);
    PERFORM put_event(
        CASE NEW.kind WHEN 'edit' THEN 'message.edited' ELSE 'message.deleted' END,
        (SELECT name FROM connections WHERE id = NEW.connection_id),
        jsonb_build_object('message_id', v_target.id,
            'conversation_id', coalesce(v_target.conversation_id, NEW.conversation_id),
            'chat', (SELECT address FROM chats
                     WHERE connection_id = NEW.connection_id AND id = NEW.chat_id),
            'external_id', NEW.target_id, 'kind', NEW.kind, 'from_me', NEW.from_me,
            'sent_at', event_time(NEW.sent_at), 'change_id', NEW.id, 'verdict', 'stored'));
    RETURN NULL;
END
$$;

-- The messages of a batch, in their order. Of those that history told, only what came live, too
-- (p_live, by their numbers), and placeholders that it filled. Rows that were there before are
-- looked at; of new ones the batch knows all.
CREATE FUNCTION tell_messages(
    p_rows batch_row[], p_messages incoming_message[], p_live integer[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7377481550917955439);
    INSERT INTO events (type, connection, data)
    SELECT t.type, (e.m).connection,
        CASE WHEN t.type IN ('message.edited', 'message.deleted')
        THEN (
            SELECT jsonb_build_object('message_id', g.id,
                'conversation_id', coalesce(g.conversation_id, e.conversation_id),
                'chat', k.address, 'external_id', e.target_id, 'kind', e.kind,
                'from_me', e.from_me, 'sent_at', event_time(e.sent_at), 'change_id', e.id,
                'verdict', 'stored')
            FROM change_target(e.connection_id, e.id, e.chat_id, e.sender_id, e.kind,
                e.target_id, (e.m).target_author) g)
        ELSE jsonb_build_object('message_id', e.id, 'conversation_id', e.conversation_id,
            'chat', k.address, 'external_id', e.external_id, 'kind', e.kind,
            'from_me', e.from_me, 'sent_at', event_time(e.sent_at), 'target_id', e.target_id,
            'verdict', CASE WHEN e.placeholder THEN 'placeholder' ELSE 'stored' END)
        END
    FROM (
        SELECT w.ord, w.m, w.connection_id, w.chat_id, w.sender_id, w.new_id AS id,
            w.conversation_id, (w.m).external_id, (w.m).kind, w.from_me, w.sent_at,
            (w.m).target_id, w.full_ord IS NULL AS placeholder, false AS filled
        FROM (
            SELECT r.*, p_messages[coalesce(r.full_ord, r.ord)] AS m
            FROM unnest(p_rows) r
            WHERE r.new_id IS NOT NULL AND (NOT r.quiet OR r.ord = ANY (p_live))
            OFFSET 0
        ) w
        UNION ALL
        SELECT w.ord, w.m, w.connection_id, w.chat_id, w.sender_id, w.known_id,
            k.conversation_id, k.external_id, k.kind, k.from_me, k.sent_at, k.target_id,
            k.state = 'undecryptable', NOT w.duplicate
        FROM (
            SELECT r.*, p_messages[r.ord] AS m
            FROM unnest(p_rows) r
            WHERE r.known_id IS NOT NULL
              AND (NOT r.duplicate AND NOT r.undecryptable OR r.ord = ANY (p_live))
            OFFSET 0
        ) w
        CROSS JOIN LATERAL (
            SELECT * FROM messages s
            WHERE s.connection_id = w.connection_id AND s.id = w.known_id OFFSET 0
        ) k
    ) e
    CROSS JOIN LATERAL (
        SELECT c.address FROM chats c
        WHERE c.connection_id = e.connection_id AND c.id = e.chat_id OFFSET 0
    ) k
    CROSS JOIN LATERAL (
        SELECT 1 AS part, 'message.recovered' AS type WHERE e.filled
        UNION ALL
        SELECT 2, CASE WHEN e.placeholder THEN 'message.undecryptable'
                       WHEN e.kind = 'edit' THEN 'message.edited'
                       WHEN e.kind = 'revoke' THEN 'message.deleted'
                       ELSE 'message.stored' END
        WHERE NOT e.filled OR e.kind IN ('edit', 'revoke')
    ) t
    ORDER BY e.ord, t.part;
END
$$;

DROP TRIGGER IF EXISTS tell ON connection_events;
CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON connection_events
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell_transition();
DROP TRIGGER IF EXISTS tell ON daemon_lives;
CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON daemon_lives
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell_life();
DROP TRIGGER IF EXISTS tell_opened ON conversations;
CREATE CONSTRAINT TRIGGER tell_opened AFTER INSERT ON conversations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.status <> 'closed')
    EXECUTE FUNCTION tell_conversation();
DROP TRIGGER IF EXISTS tell_status ON conversations;
CREATE CONSTRAINT TRIGGER tell_status AFTER UPDATE OF status ON conversations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.status <> NEW.status)
    EXECUTE FUNCTION tell_conversation();
DROP TRIGGER IF EXISTS tell_opened ON gaps;
CREATE CONSTRAINT TRIGGER tell_opened AFTER INSERT ON gaps
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell_gap();
DROP TRIGGER IF EXISTS tell_closed ON gaps;
CREATE CONSTRAINT TRIGGER tell_closed AFTER UPDATE OF closed_at ON gaps
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL) EXECUTE FUNCTION tell_gap();
DROP TRIGGER IF EXISTS tell_queued ON outbox;
CREATE CONSTRAINT TRIGGER tell_queued AFTER INSERT ON outbox
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell_outbox();
DROP TRIGGER IF EXISTS tell_state ON outbox;
CREATE CONSTRAINT TRIGGER tell_state AFTER UPDATE OF state ON outbox
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION tell_outbox();
DROP TRIGGER IF EXISTS tell ON quarantine;
CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON quarantine
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell_quarantine();
DROP TRIGGER IF EXISTS tell_opened ON messages;
CREATE CONSTRAINT TRIGGER tell_opened AFTER UPDATE OF kind ON messages
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.state = 'stored' AND OLD.kind <> NEW.kind AND NEW.kind IN ('edit', 'revoke'))
    EXECUTE FUNCTION tell_change();
