-- The functions of the writer. Replaced at start whenever they have changed: this file, then
-- facts.sql, merges.sql, queues.sql, gaps.sql, views.sql, events.sql.
--
-- apply_batch is the one place where messages find their conversation. Its rules:
--   * A message is the same when connection, chat, sender and id are the same.
--   * A chat has at most one live conversation (waiting or open); live messages go there.
--   * Else a customer's message reopens the chat's newest conversation, to waiting, when the
--     message was sent before the reopen window had passed; else it opens one, waiting.
--     Late messages reopen too: the team has not seen them.
--   * Else a message of the team goes to that newest conversation within the window and leaves
--     it closed (team_reopens: reopens it, to open); else it opens one, open.
--   * A message from the history goes to the conversation that had begun by its own time, else
--     to the oldest, else to a closed one made for it; it never changes a status. So does one
--     that only changes or answers another (a reaction), and it does not count as activity.
--     When such a message comes live after all, the rules of live ones hold for it, once.
--   * last_message_at never moves backwards.
--   * Addresses that a batch shows to be one person's are joined before its messages are looked
--     at: see merges.sql. Its facts come last: see facts.sql.
--   * A message that cannot be decrypted is a placeholder: it takes its place like any other,
--     counts its failures, and is filled in place when its content comes.

DROP FUNCTION IF EXISTS apply_batch(jsonb, text[], bytea[], bytea[]);
DROP FUNCTION IF EXISTS apply_batch(jsonb, text[], bytea[], bytea[], bytea[]);
DROP FUNCTION IF EXISTS tell_messages(batch_row[], incoming_message[], integer[]);
DROP FUNCTION IF EXISTS find_conversation(batch_row, timestamptz);
DROP FUNCTION IF EXISTS make_live(batch_row, bigint, bigint);
DROP FUNCTION IF EXISTS resolve_contact(integer, text, text, boolean, timestamptz);
DROP FUNCTION IF EXISTS resolve_contact(integer, text, text, boolean, text, timestamptz);
DROP FUNCTION IF EXISTS apply_records(jsonb, bytea[], timestamptz);
DROP TYPE IF EXISTS sealed_record;
DROP TYPE IF EXISTS batch_row;
DROP TYPE IF EXISTS incoming_message;

-- A message as the writer hands it over, numbered from 1 within its batch.
CREATE TYPE incoming_message AS (
    ord integer,
    connection text,
    chat text,
    chat_alt text,
    direct boolean,
    sender text,
    sender_alt text,
    sender_name text,
    from_me boolean,
    external_id text,
    handled_keys text[],
    kind text,
    undecryptable boolean,
    remote_timestamp bigint,
    sent_at double precision,
    lane text,
    reason text,
    target_id text,
    target_author text,
    quoted_id text,
    quoted_author text,
    mentions text[],
    flags text[],
    detail jsonb,
    media jsonb,
    quiet boolean               -- NULL: the stream of events tells of it
);

-- What apply_batch knows of a message once it is resolved and judged.
CREATE TYPE batch_row AS (
    ord integer,
    connection_id integer,
    chat_id bigint,
    sender_id bigint,
    sender_name text,
    from_me boolean,
    live boolean,
    lane text,
    quiet boolean,
    sent_at timestamptz,
    known_id bigint,            -- the row that was there before this batch
    known_conversation bigint,
    duplicate boolean,
    undecryptable boolean,
    first_ord integer,          -- of its key in this batch: the first that is no duplicate,
    full_ord integer,           -- and the first with content
    failures integer,           -- of its key, up to here: how often it failed to decrypt,
    all_failures integer,       -- and to the end of the batch
    new_id bigint,              -- given when this message makes the row
    conversation_id bigint
);

-- The last state of one record in a batch; nothing sealed means it is deleted.
CREATE TYPE sealed_record AS (
    connection_id integer,
    kind text,
    key text,
    jid text,
    sealed bytea
);

-- The contact behind one or two addresses, made if need be. Several contacts become one: the
-- account itself survives, else the oldest; but not two that an operator has told apart.
CREATE FUNCTION resolve_contact(
    p_connection integer, p_address text, p_alternative text, p_self boolean, p_source text,
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_self bigint;
    v_found bigint[];
    v_contact bigint;
    v_other bigint;
BEGIN
    SELECT id INTO STRICT v_self FROM contacts WHERE connection_id = p_connection AND is_self;
    v_found := ARRAY(
        SELECT DISTINCT contact_id FROM contact_addresses
        WHERE connection_id = p_connection AND address IN (p_address, p_alternative)
        ORDER BY contact_id);
    IF p_self OR v_self = ANY (v_found) THEN
        v_contact := v_self;
    ELSIF cardinality(v_found) > 0 THEN
        v_contact := v_found[1];
    ELSE
        INSERT INTO contacts (connection_id, created_at) VALUES (p_connection, p_now)
        RETURNING id INTO v_contact;
    END IF;
    FOREACH v_other IN ARRAY v_found LOOP
        IF v_other <> v_contact AND NOT EXISTS (
            SELECT FROM contact_merges
            WHERE connection_id = p_connection AND undone_at IS NOT NULL
              AND (survivor_id, merged_id) IN ((v_contact, v_other), (v_other, v_contact)))
        THEN
            PERFORM merge_contacts(p_connection, v_contact, v_other, p_source, p_now);
        END IF;
    END LOOP;
    INSERT INTO contact_addresses (connection_id, address, contact_id, created_at)
    SELECT p_connection, address, v_contact, p_now
    FROM unnest(ARRAY[p_address, p_alternative]) AS address
    WHERE address IS NOT NULL
    ON CONFLICT (connection_id, address) DO NOTHING;
    UPDATE chats SET address = contact_address(p_connection, v_contact)
    WHERE connection_id = p_connection AND kind = 'direct' AND contact_id = v_contact
      AND address <> contact_address(p_connection, v_contact);
END
$$;

-- The conversation of a new message that has no live one to go to, or comes from the history.
CREATE FUNCTION find_conversation(
    p_row batch_row, p_now timestamptz,
    OUT target bigint, OUT opened boolean, OUT reopened boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_rules connections;
    v_latest conversations;
    v_status text := CASE WHEN NOT p_row.live THEN 'closed'
                          WHEN p_row.from_me THEN 'open'
                          ELSE 'waiting' END;
BEGIN
    opened := false;
    reopened := false;
    IF p_row.live THEN
        -- An earlier message of the batch may have opened one.
        SELECT id INTO target FROM conversations
        WHERE connection_id = p_row.connection_id AND chat_id = p_row.chat_id
          AND status <> 'closed';
        IF target IS NOT NULL THEN
            RETURN;
        END IF;
        SELECT * INTO v_latest FROM conversations
        WHERE connection_id = p_row.connection_id AND chat_id = p_row.chat_id
          AND merged_into IS NULL
        ORDER BY opened_at DESC, id DESC LIMIT 1;
        SELECT * INTO STRICT v_rules FROM connections WHERE id = p_row.connection_id;
        IF p_row.sent_at <= v_rules.reopen_window
            + (CASE v_rules.reopen_from WHEN 'closed_at' THEN v_latest.closed_at
                                        ELSE v_latest.last_message_at END)
        THEN
            target := v_latest.id;
            reopened := NOT p_row.from_me OR v_rules.team_reopens;
            UPDATE conversations SET
                status = CASE WHEN find_conversation.reopened THEN v_status ELSE status END,
                closed_at = CASE WHEN find_conversation.reopened THEN NULL ELSE closed_at END,
                reopened = reopened + find_conversation.reopened::integer,
                reopened_at = CASE WHEN find_conversation.reopened THEN p_now
                                   ELSE reopened_at END,
                last_message_at = greatest(last_message_at, p_row.sent_at)
            WHERE connection_id = p_row.connection_id AND id = v_latest.id;
            RETURN;
        END IF;
    ELSE
        SELECT id INTO target FROM conversations
        WHERE connection_id = p_row.connection_id AND chat_id = p_row.chat_id
          AND opened_at <= p_row.sent_at AND merged_into IS NULL
        ORDER BY opened_at DESC, id DESC LIMIT 1;
        IF target IS NULL THEN
            SELECT id INTO target FROM conversations
            WHERE connection_id = p_row.connection_id AND chat_id = p_row.chat_id
              AND merged_into IS NULL
            ORDER BY opened_at, id LIMIT 1;
        END IF;
        IF target IS NOT NULL THEN
            UPDATE conversations SET last_message_at = p_row.sent_at
            WHERE connection_id = p_row.connection_id AND id = target
              AND status = 'closed' AND last_message_at < p_row.sent_at
              AND p_row.lane = 'history';
            RETURN;
        END IF;
    END IF;
    INSERT INTO conversations (connection_id, chat_id, status, opened_at, last_message_at, closed_at)
    VALUES (p_row.connection_id, p_row.chat_id, v_status, p_row.sent_at, p_row.sent_at,
            CASE WHEN NOT p_row.live THEN p_row.sent_at END)
    RETURNING id INTO target;
    opened := p_row.live;
END
$$;

-- A message from the history has come live, too: it takes its place in the conversation.
CREATE FUNCTION make_live(p_row batch_row, p_former bigint, p_target bigint)
RETURNS void LANGUAGE sql AS $$
    UPDATE messages SET lane = 'live', conversation_id = p_target
    WHERE connection_id = p_row.connection_id AND id = p_row.known_id;
    UPDATE conversations SET messages = messages - 1
    WHERE connection_id = p_row.connection_id AND id = p_former;
    UPDATE conversations SET
        messages = messages + 1, last_message_at = greatest(last_message_at, p_row.sent_at)
    WHERE connection_id = p_row.connection_id AND id = p_target;
$$;

-- Writes the sealed records of a batch.
CREATE FUNCTION apply_records(p_batch jsonb, p_sealed bytea[], p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_resets integer[] := ARRAY(
        SELECT c.id FROM connections c
        JOIN jsonb_array_elements_text(p_batch -> 'resets') AS r (name) ON c.name = r.name);
    v_records sealed_record[] := ARRAY(
        SELECT ROW (c.id, r.kind, r.key, r.jid, r.sealed)::sealed_record
        FROM ROWS FROM (
            jsonb_to_recordset(p_batch -> 'records')
                AS (connection text, kind text, key text, jid text),
            unnest(p_sealed)
        ) AS r (connection, kind, key, jid, sealed)
        JOIN connections c ON c.name = r.connection);
    v_written text[] := ARRAY(
        SELECT DISTINCT kind FROM unnest(v_records) WHERE sealed IS NOT NULL);
    v_deleted text[] := ARRAY(
        SELECT DISTINCT kind FROM unnest(v_records) WHERE sealed IS NULL);
BEGIN
    IF cardinality(v_resets) > 0 THEN
        DELETE FROM device_identity WHERE connection_id = ANY (v_resets);
        DELETE FROM signal_sessions WHERE connection_id = ANY (v_resets);
        DELETE FROM signal_identities WHERE connection_id = ANY (v_resets);
        DELETE FROM signal_prekeys WHERE connection_id = ANY (v_resets);
        DELETE FROM signal_sender_keys WHERE connection_id = ANY (v_resets);
        DELETE FROM peer_messages WHERE connection_id = ANY (v_resets);
        DELETE FROM app_state_keys WHERE connection_id = ANY (v_resets);
        DELETE FROM stale_keys WHERE connection_id = ANY (v_resets);
        PERFORM reset_queue_records(v_resets);
    END IF;
    IF 'device' = ANY (v_written) THEN
        INSERT INTO device_identity (connection_id, jid, sealed, updated_at)
        SELECT connection_id, jid, sealed, p_now FROM unnest(v_records)
        WHERE kind = 'device' AND sealed IS NOT NULL
        ON CONFLICT (connection_id) DO UPDATE
            SET jid = excluded.jid, sealed = excluded.sealed, updated_at = excluded.updated_at;
    END IF;
    IF 'device' = ANY (v_deleted) THEN
        DELETE FROM device_identity d USING unnest(v_records) r
        WHERE r.kind = 'device' AND r.sealed IS NULL AND d.connection_id = r.connection_id;
    END IF;
    IF 'session' = ANY (v_written) THEN
        INSERT INTO signal_sessions (connection_id, key, sealed, updated_at)
        SELECT connection_id, key, sealed, p_now FROM unnest(v_records)
        WHERE kind = 'session' AND sealed IS NOT NULL
        ON CONFLICT (connection_id, key) DO UPDATE
            SET sealed = excluded.sealed, updated_at = excluded.updated_at;
    END IF;
    IF 'session' = ANY (v_deleted) THEN
        DELETE FROM signal_sessions s USING unnest(v_records) r
        WHERE r.kind = 'session' AND r.sealed IS NULL
          AND s.connection_id = r.connection_id AND s.key = r.key;
    END IF;
    IF 'identity' = ANY (v_written) THEN
        INSERT INTO signal_identities (connection_id, key, sealed, updated_at)
        SELECT connection_id, key, sealed, p_now FROM unnest(v_records)
        WHERE kind = 'identity' AND sealed IS NOT NULL
        ON CONFLICT (connection_id, key) DO UPDATE
            SET sealed = excluded.sealed, updated_at = excluded.updated_at;
    END IF;
    IF 'identity' = ANY (v_deleted) THEN
        DELETE FROM signal_identities s USING unnest(v_records) r
        WHERE r.kind = 'identity' AND r.sealed IS NULL
          AND s.connection_id = r.connection_id AND s.key = r.key;
    END IF;
    IF 'prekey' = ANY (v_written) THEN
        INSERT INTO signal_prekeys (connection_id, key, sealed, updated_at)
        SELECT connection_id, key, sealed, p_now FROM unnest(v_records)
        WHERE kind = 'prekey' AND sealed IS NOT NULL
        ON CONFLICT (connection_id, key) DO UPDATE
            SET sealed = excluded.sealed, updated_at = excluded.updated_at;
    END IF;
    IF 'prekey' = ANY (v_deleted) THEN
        DELETE FROM signal_prekeys s USING unnest(v_records) r
        WHERE r.kind = 'prekey' AND r.sealed IS NULL
          AND s.connection_id = r.connection_id AND s.key = r.key;
    END IF;
    IF 'sender_key' = ANY (v_written) THEN
        INSERT INTO signal_sender_keys (connection_id, key, sealed, updated_at)
        SELECT connection_id, key, sealed, p_now FROM unnest(v_records)
        WHERE kind = 'sender_key' AND sealed IS NOT NULL
        ON CONFLICT (connection_id, key) DO UPDATE
            SET sealed = excluded.sealed, updated_at = excluded.updated_at;
    END IF;
    IF 'sender_key' = ANY (v_deleted) THEN
        DELETE FROM signal_sender_keys s USING unnest(v_records) r
        WHERE r.kind = 'sender_key' AND r.sealed IS NULL
          AND s.connection_id = r.connection_id AND s.key = r.key;
    END IF;
    IF 'peer' = ANY (v_written) THEN
        INSERT INTO peer_messages (connection_id, key, sealed, updated_at)
        SELECT connection_id, key, sealed, p_now FROM unnest(v_records)
        WHERE kind = 'peer' AND sealed IS NOT NULL
        ON CONFLICT (connection_id, key) DO UPDATE
            SET sealed = excluded.sealed, updated_at = excluded.updated_at;
    END IF;
    IF 'peer' = ANY (v_deleted) THEN
        DELETE FROM peer_messages s USING unnest(v_records) r
        WHERE r.kind = 'peer' AND r.sealed IS NULL
          AND s.connection_id = r.connection_id AND s.key = r.key;
    END IF;
    IF 'app_state_key' = ANY (v_written) THEN
        INSERT INTO app_state_keys (connection_id, key, sealed, updated_at)
        SELECT connection_id, key, sealed, p_now FROM unnest(v_records)
        WHERE kind = 'app_state_key' AND sealed IS NOT NULL
        ON CONFLICT (connection_id, key) DO UPDATE
            SET sealed = excluded.sealed, updated_at = excluded.updated_at;
    END IF;
    IF 'app_state_key' = ANY (v_deleted) THEN
        DELETE FROM app_state_keys s USING unnest(v_records) r
        WHERE r.kind = 'app_state_key' AND r.sealed IS NULL
          AND s.connection_id = r.connection_id AND s.key = r.key;
    END IF;
END
$$;

-- Commits one batch: p_batch holds now, connections, messages, handled keys, resets and
-- records, and pairs, facts and steps of gaps where there are any; texts and raws go with the messages, sealed
-- values with the records, by position; facts name their blobs by number.
CREATE FUNCTION apply_batch(
    p_batch jsonb, p_texts text[], p_raws bytea[], p_sealed bytea[], p_blobs bytea[])
RETURNS TABLE (
    ord integer, verdict text, message_id bigint, conversation_id bigint,
    opened boolean, reopened boolean, filled boolean, retries integer
) LANGUAGE plpgsql
-- A batch is small and the tables are large, whatever their statistics say when a connection
-- makes its plans (on a new database: that they are empty). So: look rows up by index.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := to_timestamp((p_batch ->> 'now')::double precision);
    v_forgotten timestamptz := v_now - interval '14 days';
    v_connections integer[];
    v_unknown text;
    v_messages incoming_message[];
    v_rows batch_row[];
    v_pair record;
    v_row batch_row;
    v_found record;
    v_told record;
    v_first integer;
    v_opened integer[] := '{}';
    v_reopened integer[] := '{}';
    v_news integer[] := '{}';   -- told by history first, and live now
BEGIN
    v_connections := ARRAY(
        SELECT c.id FROM jsonb_array_elements_text(p_batch -> 'connections') AS b (name)
        JOIN connections c ON c.name = b.name);
    IF cardinality(v_connections) < jsonb_array_length(p_batch -> 'connections') THEN
        SELECT b.name INTO v_unknown
        FROM jsonb_array_elements_text(p_batch -> 'connections') AS b (name)
        WHERE b.name NOT IN (SELECT name FROM connections);
        RAISE foreign_key_violation USING MESSAGE = 'unknown connection ' || quote_literal(v_unknown);
    END IF;
    PERFORM FROM counters WHERE connection_id = ANY (v_connections)
    ORDER BY connection_id FOR UPDATE;

    IF jsonb_array_length(p_batch -> 'messages') > 0 THEN
        v_messages := ARRAY(
            SELECT m FROM jsonb_populate_recordset(NULL::incoming_message, p_batch -> 'messages') m);

        -- People seen for the first time, or found to be one, in the order of the messages.
        FOR v_pair IN
            SELECT c.id, p.address, p.alternative, p.self
            FROM unnest(v_messages) m
            JOIN connections c ON c.name = m.connection
            CROSS JOIN LATERAL (
                VALUES (0, m.chat, m.chat_alt, false), (1, m.sender, m.sender_alt, m.from_me)
            ) AS p (part, address, alternative, self)
            CROSS JOIN LATERAL (
                SELECT count(*) AS known, min(a.contact_id) AS low, max(a.contact_id) AS high
                FROM contact_addresses a
                WHERE a.connection_id = c.id AND a.address IN (p.address, p.alternative)
            ) k
            WHERE CASE p.part
                    WHEN 0 THEN m.direct
                    ELSE NOT m.direct OR p.self OR m.sender <> m.chat
                        OR m.sender_alt IS DISTINCT FROM m.chat_alt
                END
              AND (k.known < 1 + (p.alternative IS NOT NULL)::integer OR k.low <> k.high
                OR CASE WHEN p.self THEN k.low <> (
                        SELECT s.id FROM contacts s WHERE s.connection_id = c.id AND s.is_self)
                    ELSE false END)
            GROUP BY c.id, p.address, p.alternative, p.self
            ORDER BY min(2 * m.ord + p.part)
        LOOP
            PERFORM resolve_contact(
                v_pair.id, v_pair.address, v_pair.alternative, v_pair.self, 'stanza', v_now);
        END LOOP;
    END IF;
    IF p_batch ? 'pairs' THEN
        PERFORM apply_pairs(p_batch -> 'pairs', v_now);
    END IF;

    IF cardinality(v_messages) > 0 THEN
        INSERT INTO chats (connection_id, kind, address, contact_id, created_at)
        SELECT n.connection_id, n.kind,
            CASE WHEN n.contact_id IS NULL THEN n.chat
                 ELSE contact_address(n.connection_id, n.contact_id) END,
            n.contact_id, v_now
        FROM (
            SELECT DISTINCT ON (c.id, m.direct, coalesce(p.contact_id::text, m.chat))
                c.id AS connection_id,
                CASE WHEN m.direct THEN 'direct' ELSE 'group' END AS kind,
                m.chat, p.contact_id, m.ord
            FROM unnest(v_messages) m
            JOIN connections c ON c.name = m.connection
            CROSS JOIN LATERAL (
                SELECT CASE WHEN m.direct THEN (
                    SELECT a.contact_id FROM contact_addresses a
                    WHERE a.connection_id = c.id AND a.address = m.chat) END AS contact_id
            ) p
            WHERE CASE WHEN m.direct THEN (
                    SELECT k.id FROM chats k
                    WHERE k.connection_id = c.id AND k.kind = 'direct'
                      AND k.contact_id = p.contact_id)
                ELSE (
                    SELECT k.id FROM chats k
                    WHERE k.connection_id = c.id AND k.kind = 'group' AND k.address = m.chat)
                END IS NULL
            ORDER BY c.id, m.direct, coalesce(p.contact_id::text, m.chat), m.ord
        ) n
        ORDER BY n.ord;

        -- Each message judged by what is stored and what precedes it in the batch.
        v_rows := ARRAY(
            WITH resolved AS MATERIALIZED (
                SELECT m.ord, c.id AS connection_id, m.sender_name, m.from_me,
                    m.lane = 'live' AS live, m.lane,
                    m.quiet IS TRUE AS quiet, to_timestamp(m.sent_at) AS sent_at, m.external_id, m.handled_keys,
                    m.undecryptable,
                    CASE WHEN m.direct THEN (
                        SELECT k.id FROM chats k
                        WHERE k.connection_id = c.id AND k.kind = 'direct'
                          AND k.contact_id = p.contact_id)
                    ELSE (
                        SELECT k.id FROM chats k
                        WHERE k.connection_id = c.id AND k.kind = 'group' AND k.address = m.chat)
                    END AS chat_id,
                    CASE WHEN m.from_me THEN (
                        SELECT s.id FROM contacts s WHERE s.connection_id = c.id AND s.is_self)
                    WHEN m.direct AND m.sender = m.chat THEN p.contact_id
                    ELSE (
                        SELECT a.contact_id FROM contact_addresses a
                        WHERE a.connection_id = c.id AND a.address = m.sender)
                    END AS sender_id
                FROM unnest(v_messages) m
                JOIN connections c ON c.name = m.connection
                CROSS JOIN LATERAL (
                    SELECT CASE WHEN m.direct THEN (
                        SELECT a.contact_id FROM contact_addresses a
                        WHERE a.connection_id = c.id AND a.address = m.chat) END AS contact_id
                    OFFSET 0
                ) p
            ), known AS (
                SELECT r.*, k.id AS known_id, k.conversation_id AS known_conversation,
                    k.retries AS known_retries, k.state = 'stored' AS complete,
                    r.undecryptable AND (
                        EXISTS (
                            SELECT FROM handled_stanzas h
                            WHERE h.connection_id = r.connection_id
                              AND h.key = ANY (r.handled_keys) AND h.handled_at >= v_forgotten)
                        OR EXISTS (
                            SELECT FROM jsonb_to_recordset(p_batch -> 'handled')
                                AS h (connection text, key text, after integer)
                            JOIN connections hc ON hc.name = h.connection
                            WHERE hc.id = r.connection_id
                              AND h.key = ANY (r.handled_keys) AND h.after < r.ord)
                    ) AS seen
                FROM resolved r
                LEFT JOIN LATERAL (
                    SELECT m.id, m.conversation_id, m.retries, m.state FROM messages m
                    WHERE m.connection_id = r.connection_id AND m.chat_id = r.chat_id
                      AND m.sender_id = r.sender_id AND m.external_id = r.external_id
                ) k ON true
            ), keyed AS (
                SELECT k.*,
                    min(k.ord) FILTER (WHERE NOT k.undecryptable) OVER same AS full_ord
                FROM known k
                WINDOW same AS (
                    PARTITION BY k.connection_id, k.chat_id, k.sender_id, k.external_id)
            ), judged AS (
                SELECT k.*,
                    k.seen OR coalesce(k.complete, false)
                        OR coalesce(k.ord > k.full_ord, false) AS duplicate
                FROM keyed k
            ), ranked AS (
                SELECT j.*,
                    min(j.ord) FILTER (WHERE NOT j.duplicate) OVER same AS first_ord,
                    coalesce(j.known_retries, 0)
                        + count(*) FILTER (WHERE NOT j.duplicate AND j.undecryptable)
                            OVER (same ORDER BY j.ord) AS failures,
                    coalesce(j.known_retries, 0)
                        + count(*) FILTER (WHERE NOT j.duplicate AND j.undecryptable)
                            OVER same AS all_failures
                FROM judged j
                WINDOW same AS (
                    PARTITION BY j.connection_id, j.chat_id, j.sender_id, j.external_id)
                ORDER BY j.ord
            )
            SELECT ROW (
                r.ord, r.connection_id, r.chat_id, r.sender_id, r.sender_name, r.from_me, r.live,
                r.lane, r.quiet, r.sent_at, r.known_id, r.known_conversation, r.duplicate, r.undecryptable,
                r.first_ord, r.full_ord, r.failures, r.all_failures,
                CASE WHEN r.ord = r.first_ord AND r.known_id IS NULL
                    THEN nextval('messages_id_seq') END,
                CASE WHEN r.ord = r.first_ord AND r.known_id IS NULL AND r.live
                    THEN (SELECT v.id FROM conversations v
                          WHERE v.connection_id = r.connection_id AND v.chat_id = r.chat_id
                            AND v.status <> 'closed') END
            )::batch_row
            FROM ranked r
            ORDER BY r.ord);

        -- The rules, for the messages that have no live conversation to go to, and for those
        -- that history told first: their live copy makes them news, once.
        FOR v_row IN
            SELECT * FROM unnest(v_rows) w
            WHERE w.new_id IS NOT NULL AND w.conversation_id IS NULL
               OR w.duplicate AND w.live
            ORDER BY w.ord
        LOOP
            IF v_row.duplicate THEN
                v_first := CASE WHEN v_row.known_id IS NULL THEN v_row.first_ord END;
                SELECT m.lane, m.conversation_id INTO v_told FROM messages m
                WHERE m.connection_id = v_row.connection_id AND m.id = v_row.known_id;
                v_rows[v_row.ord].known_conversation := v_told.conversation_id;
                CONTINUE WHEN coalesce(v_told.lane, v_rows[v_first].lane)
                    IS DISTINCT FROM 'history';
            END IF;
            v_found := find_conversation(v_row, v_now);
            IF NOT v_row.duplicate THEN
                v_rows[v_row.ord].conversation_id := v_found.target;
            ELSIF v_first IS NOT NULL THEN
                v_rows[v_first].lane := 'live';
                v_rows[v_first].conversation_id := v_found.target;
                v_news := v_news || v_first;
            ELSE
                v_rows[v_row.ord].known_conversation := v_found.target;
                PERFORM make_live(v_row, v_told.conversation_id, v_found.target);
                v_news := v_news || v_row.ord;
            END IF;
            IF v_found.opened THEN
                v_opened := v_opened || v_row.ord;
            ELSIF v_found.reopened THEN
                v_reopened := v_reopened || v_row.ord;
            END IF;
        END LOOP;

        INSERT INTO messages (
            connection_id, id, chat_id, sender_id, external_id, conversation_id, arrival,
            kind, state, from_me, lane, remote_timestamp, sent_at, received_at, retries,
            reason, text, raw, target_id, target_author, quoted_id, quoted_author, mentions,
            flags, detail)
        SELECT w.connection_id, w.new_id, w.chat_id, w.sender_id, (w.m).external_id,
            w.conversation_id,
            (SELECT n.arrivals FROM counters n WHERE n.connection_id = w.connection_id)
                + row_number() OVER (PARTITION BY w.connection_id ORDER BY w.ord),
            (w.m).kind, CASE WHEN w.full_ord IS NULL THEN 'undecryptable' ELSE 'stored' END,
            w.from_me, CASE (w.m).lane WHEN 'side' THEN 'side' ELSE w.lane END,
            (v_messages[w.ord]).remote_timestamp, w.sent_at, v_now,
            w.all_failures, (w.m).reason, p_texts[(w.m).ord], p_raws[(w.m).ord],
            (w.m).target_id, (w.m).target_author, (w.m).quoted_id, (w.m).quoted_author,
            (w.m).mentions, (w.m).flags, (w.m).detail
        FROM (
            SELECT r.*, v_messages[coalesce(r.full_ord, r.ord)] AS m  -- the one with content
            FROM unnest(v_rows) r
            WHERE r.new_id IS NOT NULL
            OFFSET 0
        ) w
        ORDER BY w.ord;

        -- Placeholders that got their message, or failed once more.
        WITH filled AS (
            UPDATE messages s SET
                kind = (w.m).kind, state = 'stored', text = p_texts[w.ord], raw = p_raws[w.ord],
                lane = CASE (w.m).lane WHEN 'side' THEN 'side' ELSE s.lane END, reason = NULL,
                verdict = NULL, retries = w.failures, filled_at = v_now,
                target_id = (w.m).target_id, target_author = (w.m).target_author,
                quoted_id = (w.m).quoted_id, quoted_author = (w.m).quoted_author,
                mentions = (w.m).mentions, flags = (w.m).flags, detail = (w.m).detail
            FROM (
                SELECT r.*, v_messages[r.ord] AS m
                FROM unnest(v_rows) r
                WHERE r.known_id IS NOT NULL AND NOT r.duplicate AND NOT r.undecryptable
                OFFSET 0
            ) w
            WHERE s.connection_id = w.connection_id AND s.id = w.known_id
            RETURNING s.connection_id, s.id
        )
        INSERT INTO search_again (connection_id, message_id)
        SELECT f.connection_id, f.id FROM filled f ON CONFLICT DO NOTHING;
        UPDATE messages s SET retries = w.failures, reason = (v_messages[w.ord]).reason
        FROM unnest(v_rows) w
        WHERE w.known_id IS NOT NULL AND NOT w.duplicate AND w.undecryptable
          AND w.full_ord IS NULL AND w.failures = w.all_failures
          AND s.connection_id = w.connection_id AND s.id = w.known_id;

        -- The files of the messages that are complete now.
        IF EXISTS (SELECT FROM unnest(v_messages) WHERE media IS NOT NULL) THEN
            PERFORM add_media(
                w.connection_id, coalesce(w.known_id, (v_rows[w.first_ord]).new_id),
                (v_messages[w.ord]).media)
            FROM unnest(v_rows) w
            WHERE NOT w.duplicate AND NOT w.undecryptable
              AND (v_messages[w.ord]).media IS NOT NULL
            ORDER BY w.ord;
        END IF;

        UPDATE conversations v SET
            messages = v.messages + n.messages,
            last_message_at = greatest(v.last_message_at, n.last_message_at)
        FROM (
            SELECT w.connection_id, w.conversation_id, count(*) AS messages,
                max(w.sent_at) FILTER (WHERE w.lane <> 'side') AS last_message_at
            FROM unnest(v_rows) w WHERE w.new_id IS NOT NULL
            GROUP BY w.connection_id, w.conversation_id
        ) n
        WHERE v.connection_id = n.connection_id AND v.id = n.conversation_id;

        -- Push names, each as of its message. A name that stays the same is dated anew when it
        -- has become an hour older, so that not every message writes it.
        INSERT INTO contact_names AS n (connection_id, address, source, name, at)
        SELECT DISTINCT ON (w.connection_id, w.address)
            w.connection_id, w.address, 'push', w.sender_name, w.sent_at
        FROM (
            SELECT r.*, (v_messages[r.ord]).sender AS address
            FROM unnest(v_rows) r
            WHERE NOT r.duplicate AND NOT r.from_me AND r.sender_name IS NOT NULL
            OFFSET 0
        ) w
        LEFT JOIN contact_names k ON k.connection_id = w.connection_id
            AND k.address = w.address AND k.source = 'push'
        WHERE (k.address IS NULL
            OR k.name <> w.sender_name
                AND (k.at, k.name COLLATE "C") < (w.sent_at, w.sender_name COLLATE "C")
            OR k.at < w.sent_at - interval '1 hour')
        ORDER BY w.connection_id, w.address, w.sent_at DESC, w.sender_name COLLATE "C" DESC
        ON CONFLICT (connection_id, address, source) DO UPDATE
            SET name = excluded.name, at = excluded.at;

        UPDATE counters c SET
            arrivals = c.arrivals + n.arrivals,
            messages = c.messages + n.messages,
            undecryptable = c.undecryptable + n.arrivals - n.messages,
            duplicates = c.duplicates + n.duplicates,
            last_message_at = greatest(c.last_message_at, n.last_message_at)
        FROM (
            SELECT w.connection_id,
                count(w.new_id) AS arrivals,
                count(*) FILTER (WHERE NOT w.duplicate AND NOT w.undecryptable) AS messages,
                count(*) FILTER (WHERE w.duplicate) AS duplicates,
                max(w.sent_at) FILTER (WHERE w.new_id IS NOT NULL) AS last_message_at
            FROM unnest(v_rows) w
            GROUP BY w.connection_id
        ) n
        WHERE c.connection_id = n.connection_id;
    END IF;

    IF jsonb_array_length(p_batch -> 'handled') > 0 THEN
        INSERT INTO handled_stanzas (connection_id, key, handled_at)
        SELECT DISTINCT c.id, h.key, v_now
        FROM jsonb_to_recordset(p_batch -> 'handled') AS h (connection text, key text)
        JOIN connections c ON c.name = h.connection
        ON CONFLICT (connection_id, key) DO UPDATE SET handled_at = excluded.handled_at
            WHERE handled_stanzas.handled_at < v_forgotten;
        -- Old ones go as new ones come, a bounded number at a time.
        DELETE FROM handled_stanzas WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM handled_stanzas
            WHERE connection_id = ANY (v_connections) AND handled_at < v_forgotten
            LIMIT 1000));
    END IF;

    IF jsonb_array_length(p_batch -> 'records') + jsonb_array_length(p_batch -> 'resets') > 0 THEN
        PERFORM apply_records(p_batch, p_sealed, v_now);
    END IF;
    IF p_batch ? 'facts' THEN
        PERFORM apply_facts(p_batch -> 'facts', p_blobs, v_now);
    END IF;
    IF p_batch ? 'gaps' THEN
        PERFORM apply_gaps(
            p_batch -> 'gaps',
            ARRAY(
                SELECT CASE WHEN w.duplicate THEN 'duplicate'
                            WHEN w.undecryptable THEN 'placeholder'
                            WHEN w.new_id IS NULL THEN 'filled'
                            ELSE 'stored' END
                FROM unnest(v_rows) w ORDER BY w.ord),
            ARRAY(
                SELECT coalesce(w.known_id, (v_rows[w.first_ord]).new_id)
                FROM unnest(v_rows) w ORDER BY w.ord),
            ARRAY(SELECT w.sent_at FROM unnest(v_rows) w ORDER BY w.ord),
            v_now);
    END IF;
    IF EXISTS (
        SELECT FROM gaps
        WHERE connection_id = ANY (v_connections) AND closed_at IS NULL AND to_at IS NOT NULL)
    THEN
        PERFORM close_gaps(v_connections, v_now);
    END IF;

    -- The events, when all rows are locked: see events.sql. That a conversation was opened comes
    -- before its message.
    SET CONSTRAINTS ALL IMMEDIATE;
    IF cardinality(v_rows) > 0 THEN
        PERFORM tell_messages(v_rows, v_messages, v_news);
    END IF;

    RETURN QUERY
        SELECT w.ord,
            CASE WHEN w.duplicate THEN 'duplicate'
                 WHEN w.undecryptable THEN 'placeholder'
                 ELSE 'stored' END,
            coalesce(w.known_id, (v_rows[made]).new_id),
            coalesce(w.known_conversation, (v_rows[made]).conversation_id),
            w.ord = ANY (v_opened),
            w.ord = ANY (v_reopened),
            NOT w.duplicate AND NOT w.undecryptable AND w.new_id IS NULL,
            CASE WHEN NOT w.duplicate AND w.undecryptable THEN w.failures ELSE 0 END
        FROM unnest(v_rows) w
        CROSS JOIN LATERAL (
            SELECT CASE WHEN w.first_ord <= w.ord THEN w.first_ord END AS made
        ) m
        ORDER BY w.ord;
END
$$;
