-- Puts the records of an archive back: what apply_batch does for what comes from WhatsApp. A batch
-- is one transaction; the same batch again changes nothing.
--   * Nothing that is here is moved or replaced: of messages the ones that are missing are added,
--     and placeholders get their content; of what replaces something the newer stays.
--   * Contacts become one where the archive knows their addresses as one person's, by the rules
--     of merges.sql.
--   * A conversation is found again by its key, else made. Where the chat has a live one, or one
--     that began later, what comes in live is closed as of its last message. The status of one
--     that is here stays.
--   * A message here that has lost its content, by a rule or as somebody was forgotten, does not
--     get it back, nor a file; nor do edits of it from before.
--   * A message whose conversation is not known takes its place like one of the history.
--   * The stream of events tells nothing of it, but that contacts became one.
-- It holds the connection's counters for as long as it takes, like a batch of the writer.

DROP FUNCTION IF EXISTS finish_import(text);
DROP FUNCTION IF EXISTS import_batch(text, jsonb, text[], bytea[], text);
DROP FUNCTION IF EXISTS tombstones_state();
DROP FUNCTION IF EXISTS import_contacts(integer, jsonb, timestamptz);
DROP FUNCTION IF EXISTS import_groups(integer, jsonb);
DROP FUNCTION IF EXISTS import_conversations(integer, jsonb);
DROP FUNCTION IF EXISTS import_merged(integer, jsonb);
DROP FUNCTION IF EXISTS import_messages(integer, jsonb, text[], bytea[], timestamptz);
DROP FUNCTION IF EXISTS archived_chat(integer, text, text);
DROP FUNCTION IF EXISTS archived_conversation(integer, bigint, timestamptz, integer);
DROP FUNCTION IF EXISTS count_imported(integer, bigint, bigint, bigint, bigint);
DROP TYPE IF EXISTS imported_conversation;
DROP TYPE IF EXISTS imported_message;
DROP TYPE IF EXISTS imported_row;

-- A message of an archive, numbered from 1 within its batch.
CREATE TYPE imported_message AS (
    n integer,
    chat_kind text,
    chat text,
    sender text,
    external_id text,
    opened_at timestamptz,
    nth integer,
    kind text,
    state text,
    from_me boolean,
    lane text,
    remote_timestamp bigint,
    sent_at timestamptz,
    received_at timestamptz,
    filled_at timestamptz,
    retries integer,
    reason text,
    verdict text,
    target_id text,
    target_author text,
    quoted_id text,
    quoted_author text,
    mentions text[],
    flags text[],
    detail jsonb,
    media jsonb,
    erased text,
    erased_at timestamptz
);

-- A conversation of an archive, and what it is here.
CREATE TYPE imported_conversation AS (
    n integer,
    chat_id bigint,
    opened_at timestamptz,
    nth integer,
    status text,
    messages bigint,
    last_message_at timestamptz,
    closed_at timestamptz,
    reopened integer,
    reopened_at timestamptz,
    known_id bigint
);

-- What is known of a message here.
CREATE TYPE imported_row AS (
    n integer,
    chat_id bigint,
    sender_id bigint,
    known_id bigint,
    known_erased boolean,
    fills boolean,              -- it is the message that a placeholder here waits for
    first boolean,              -- the one of its batch that is taken, of those with its identity
    conversation_id bigint,
    new_id bigint
);

-- The chat that an archive names. (No joins here and below: while tables are new, the planner
-- takes any order of them for equally good.)
CREATE FUNCTION archived_chat(p_connection integer, p_kind text, p_address text)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT CASE p_kind WHEN 'direct' THEN (
        SELECT k.id FROM chats k
        WHERE k.connection_id = p_connection AND k.kind = 'direct' AND k.contact_id = (
            SELECT a.contact_id FROM contact_addresses a
            WHERE a.connection_id = p_connection AND a.address = p_address))
    ELSE (
        SELECT k.id FROM chats k
        WHERE k.connection_id = p_connection AND k.kind = 'group' AND k.address = p_address)
    END
$$;

-- The conversation that an archive names: one that an import made for the key; else one that was
-- opened here at that moment. It is looked for among those of the chat, which are few.
CREATE FUNCTION archived_conversation(
    p_connection integer, p_chat bigint, p_opened_at timestamptz, p_nth integer
) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT v.id FROM conversations v
        WHERE v.connection_id = p_connection AND v.chat_id = p_chat AND EXISTS (
            SELECT FROM imported_conversations i
            WHERE i.connection_id = v.connection_id AND i.conversation_id = v.id
              AND i.opened_at = p_opened_at AND i.nth = p_nth
            OFFSET 0)
        ORDER BY v.opened_at = p_opened_at DESC, v.id LIMIT 1
    ), (
        SELECT v.id FROM conversations v
        WHERE v.connection_id = p_connection AND v.chat_id = p_chat AND v.opened_at = p_opened_at
            AND NOT EXISTS (
                SELECT FROM imported_conversations i
                WHERE i.connection_id = v.connection_id AND i.conversation_id = v.id
                OFFSET 0)
        ORDER BY v.id OFFSET p_nth - 1 LIMIT 1
    ))
$$;

-- People with their addresses and names; how many are new.
CREATE FUNCTION import_contacts(p_connection integer, p_contacts jsonb, p_now timestamptz)
RETURNS integer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_self bigint;
    v_made integer := 0;
    v_next record;
    v_contact bigint;
    v_first text;
    v_all text[];
    v_address text;
BEGIN
    SELECT id INTO STRICT v_self FROM contacts WHERE connection_id = p_connection AND is_self;
    FOR v_next IN
        SELECT c.is_self, c.created_at, c.addresses
        FROM jsonb_to_recordset(p_contacts)
            AS c (n integer, is_self boolean, created_at timestamptz, addresses jsonb)
        ORDER BY c.n
    LOOP
        v_all := ARRAY(
            SELECT a.address
            FROM jsonb_to_recordset(v_next.addresses) AS a (address text, created_at timestamptz)
            ORDER BY a.created_at, a.address COLLATE "C");
        SELECT a.contact_id, a.address INTO v_contact, v_first FROM contact_addresses a
        WHERE a.connection_id = p_connection AND a.address = ANY (v_all)
        ORDER BY a.contact_id, a.address COLLATE "C" LIMIT 1;
        IF v_next.is_self THEN
            v_contact := v_self;
        ELSIF v_contact IS NULL THEN
            INSERT INTO contacts (connection_id, created_at)
            VALUES (p_connection, v_next.created_at) RETURNING id INTO v_contact;
            v_made := v_made + 1;
        END IF;
        INSERT INTO contact_addresses (connection_id, address, contact_id, created_at)
        SELECT p_connection, a.address, v_contact, a.created_at
        FROM jsonb_to_recordset(v_next.addresses) AS a (address text, created_at timestamptz)
        ON CONFLICT DO NOTHING;
        -- Those that were another's; and the chat is shown under the best address.
        v_first := coalesce(v_first, v_all[1]);
        FOREACH v_address IN ARRAY v_all LOOP
            IF v_next.is_self OR v_address <> v_first OR cardinality(v_all) = 1 THEN
                PERFORM resolve_contact(p_connection, v_first, v_address, v_next.is_self,
                    'import', p_now);
            END IF;
        END LOOP;
    END LOOP;

    INSERT INTO contact_names AS n (connection_id, address, source, name, at)
    SELECT DISTINCT ON (a.address, a.source)
        p_connection, a.address, a.source, a.name, a.at
    FROM jsonb_to_recordset(p_contacts) AS c (names jsonb)
    CROSS JOIN LATERAL jsonb_to_recordset(c.names)
        AS a (address text, source text, name text, at timestamptz)
    ORDER BY a.address, a.source, a.at DESC, a.name COLLATE "C" DESC
    ON CONFLICT (connection_id, address, source) DO UPDATE
        SET name = excluded.name, at = excluded.at
        WHERE (n.at, n.name COLLATE "C") < (excluded.at, excluded.name COLLATE "C");
    RETURN v_made;
END
$$;

-- Groups: each part where it is the newest, as facts.sql has it; how many are new.
CREATE FUNCTION import_groups(p_connection integer, p_groups jsonb)
RETURNS integer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_made integer := 0;
    v_fact jsonb;
    v_next groups;
    v_part text;
    v_known timestamptz;
BEGIN
    FOR v_fact IN SELECT g FROM jsonb_array_elements(p_groups) AS g ORDER BY (g ->> 'n')::integer
    LOOP
        v_next := jsonb_populate_record(NULL::groups, v_fact);
        INSERT INTO groups (connection_id, address) VALUES (p_connection, v_next.address)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            v_made := v_made + 1;
        END IF;
        FOREACH v_part IN ARRAY ARRAY['subject', 'description', 'announce', 'locked', 'expiration']
        LOOP
            IF v_fact ? v_part AND v_fact ? (v_part || '_at') THEN
                PERFORM put_group(p_connection, v_next.address,
                    (v_fact ->> (v_part || '_at'))::timestamptz,
                    jsonb_build_object(v_part, v_fact -> v_part));
            END IF;
        END LOOP;
        SELECT members_at INTO v_known FROM groups
        WHERE connection_id = p_connection AND address = v_next.address;
        IF v_next.members_at > v_known OR v_known IS NULL THEN
            UPDATE groups SET owner = coalesce(v_next.owner, owner),
                created_at = coalesce(v_next.created_at, created_at),
                members_at = v_next.members_at
            WHERE connection_id = p_connection AND address = v_next.address;
            IF v_next.members_at IS NOT NULL THEN
                DELETE FROM group_members
                WHERE connection_id = p_connection AND group_address = v_next.address
                  AND at <= v_next.members_at;
            END IF;
            v_known := NULL;
        END IF;
        PERFORM put_member(p_connection, v_next.address, m.address, m.present, m.role, m.at)
        FROM jsonb_to_recordset(v_fact -> 'members')
            AS m (address text, present boolean, role text, at timestamptz)
        WHERE v_known IS NULL OR m.at > v_known;
    END LOOP;
    RETURN v_made;
END
$$;

-- Adds conversations that came or went to the counts that figures.sql keeps, all at once.
CREATE FUNCTION count_imported(
    p_connection integer, p_waiting bigint, p_open bigint, p_closed bigint, p_reopened bigint
) RETURNS void LANGUAGE sql AS $$
    UPDATE counters SET waiting = waiting + p_waiting, opened = opened + p_open,
        closed = closed + p_closed, reopened = reopened + p_reopened
    WHERE connection_id = p_connection
$$;

-- Conversations; how many are new. Those whose chat is not known are refused by number.
CREATE FUNCTION import_conversations(
    p_connection integer, p_conversations jsonb, OUT made integer, OUT refused integer[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_rows imported_conversation[];
BEGIN
    v_rows := ARRAY(
        SELECT ROW (c.n, c.chat_id, c.opened_at, c.nth, c.status, c.messages, c.last_message_at,
            c.closed_at, c.reopened, c.reopened_at,
            archived_conversation(p_connection, c.chat_id, c.opened_at, c.nth)
        )::imported_conversation
        FROM (
            SELECT c.*, archived_chat(p_connection, c.chat_kind, c.chat) AS chat_id
            FROM jsonb_to_recordset(p_conversations) AS c (
                n integer, chat_kind text, chat text, opened_at timestamptz, nth integer,
                status text, messages bigint, last_message_at timestamptz, closed_at timestamptz,
                reopened integer, reopened_at timestamptz)
            OFFSET 0
        ) c
        ORDER BY c.n);
    refused := ARRAY(SELECT w.n FROM unnest(v_rows) w WHERE w.chat_id IS NULL);

    -- A later archive may know more of one that an import made.
    UPDATE conversations v SET last_message_at = w.last_message_at
    FROM unnest(v_rows) w
    WHERE v.connection_id = p_connection AND v.id = w.known_id
      AND v.last_message_at < w.last_message_at
      AND EXISTS (
        SELECT FROM imported_conversations i
        WHERE i.connection_id = v.connection_id AND i.conversation_id = v.id);

    WITH fresh AS MATERIALIZED (
        SELECT w.*, nextval('conversations_id_seq') AS id,
            w.status <> 'closed' AND NOT EXISTS (
                SELECT FROM conversations v
                WHERE v.connection_id = p_connection AND v.chat_id = w.chat_id
                  AND (v.status <> 'closed' OR v.opened_at > w.opened_at)) AS live
        FROM (
            SELECT DISTINCT ON (w.chat_id, w.opened_at, w.nth) w.* FROM unnest(v_rows) w
            WHERE w.chat_id IS NOT NULL AND w.known_id IS NULL
            ORDER BY w.chat_id, w.opened_at, w.nth, w.n
        ) w
        ORDER BY w.n
    ), added AS (
        INSERT INTO conversations (connection_id, id, chat_id, status, opened_at, last_message_at,
            closed_at, reopened, reopened_at)
        OVERRIDING SYSTEM VALUE
        SELECT p_connection, f.id, f.chat_id, CASE WHEN f.live THEN f.status ELSE 'closed' END,
            f.opened_at, f.last_message_at,
            CASE WHEN NOT f.live THEN coalesce(f.closed_at, f.last_message_at) END,
            f.reopened, f.reopened_at
        FROM fresh f ORDER BY f.n
        RETURNING status, reopened
    ), noted AS (
        INSERT INTO imported_conversations (connection_id, conversation_id, opened_at, nth, messages)
        SELECT p_connection, f.id, f.opened_at, f.nth, f.messages FROM fresh f
    ), counted AS (
        SELECT count(*) AS made, count(*) FILTER (WHERE a.status = 'waiting') AS waiting,
            count(*) FILTER (WHERE a.status = 'open') AS opened,
            count(*) FILTER (WHERE a.status = 'closed') AS closed,
            coalesce(sum(a.reopened), 0)::bigint AS reopened
        FROM added a
    )
    SELECT c.made INTO made
    FROM counted c
    CROSS JOIN LATERAL count_imported(
        p_connection, c.waiting, c.opened, c.closed, c.reopened) AS done;
END
$$;

-- Conversations that a merge emptied, of those that an import made; how many.
CREATE FUNCTION import_merged(p_connection integer, p_merged jsonb)
RETURNS integer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_next record;
    v_made integer := 0;
BEGIN
    FOR v_next IN
        SELECT archived_conversation(p_connection, c.chat_id, c.opened_at, c.nth) AS emptied,
            archived_conversation(p_connection, c.chat_id, c.into_opened_at, c.into_nth) AS keeper
        FROM (
            SELECT c.*, archived_chat(p_connection, c.chat_kind, c.chat) AS chat_id
            FROM jsonb_to_recordset(p_merged) AS c (
                n integer, chat_kind text, chat text, opened_at timestamptz, nth integer,
                into_opened_at timestamptz, into_nth integer)
        ) c
        ORDER BY c.n
    LOOP
        UPDATE conversations v SET merged_into = v_next.keeper
        WHERE v.connection_id = p_connection AND v.id = v_next.emptied
          AND v.merged_into IS NULL AND v.messages = 0 AND v.status = 'closed'
          AND v_next.keeper <> v.id
          AND EXISTS (
            SELECT FROM imported_conversations i
            WHERE i.connection_id = p_connection AND i.conversation_id = v.id)
          -- Not round in a circle.
          AND v.id <> ALL (ARRAY(
            WITH RECURSIVE onward (id) AS (
                SELECT v_next.keeper
                UNION
                SELECT o.merged_into FROM onward
                JOIN conversations o ON o.connection_id = p_connection AND o.id = onward.id
                WHERE o.merged_into IS NOT NULL)
            SELECT id FROM onward));
        IF FOUND THEN
            v_made := v_made + 1;
        END IF;
    END LOOP;
    RETURN v_made;
END
$$;

-- Messages with their files: how many are new, how many placeholders got their message, how many
-- files came to messages that were here; and those whose chat or author is not known, by number.
CREATE FUNCTION import_messages(
    p_connection integer, p_messages jsonb, p_texts text[], p_raws bytea[], p_now timestamptz,
    OUT made integer, OUT filled integer, OUT files integer, OUT refused integer[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_messages imported_message[];
    v_rows imported_row[];
    v_row imported_row;
    v_m imported_message;
    v_target bigint;
    v_arrivals bigint;
BEGIN
    v_messages := ARRAY(
        SELECT m FROM jsonb_populate_recordset(NULL::imported_message, p_messages) m);
    v_rows := ARRAY(
        WITH resolved AS MATERIALIZED (
            SELECT m.n, m.external_id, m.state, m.erased,
                archived_chat(p_connection, m.chat_kind, m.chat) AS chat_id,
                CASE WHEN m.sender IS NULL THEN (
                    SELECT s.id FROM contacts s WHERE s.connection_id = p_connection AND s.is_self)
                ELSE (
                    SELECT a.contact_id FROM contact_addresses a
                    WHERE a.connection_id = p_connection AND a.address = m.sender)
                END AS sender_id,
                m.opened_at, m.nth
            FROM unnest(v_messages) m
        ), judged AS (
            SELECT r.n, r.chat_id, r.sender_id, k.id AS known_id,
                k.erased IS NOT NULL AS known_erased,
                k.state = 'undecryptable' AND k.erased IS NULL
                    AND r.state = 'stored' AND r.erased IS NULL AS fills,
                row_number() OVER (
                    PARTITION BY r.chat_id, r.sender_id, r.external_id
                    ORDER BY r.state = 'stored' DESC, r.erased IS NULL DESC, r.n) = 1
                    AND r.chat_id IS NOT NULL AND r.sender_id IS NOT NULL AS first,
                CASE WHEN k.id IS NULL AND r.opened_at IS NOT NULL THEN archived_conversation(
                    p_connection, r.chat_id, r.opened_at, r.nth) END AS conversation_id
            FROM resolved r
            LEFT JOIN LATERAL (
                SELECT m.id, m.state, m.erased FROM messages m
                WHERE m.connection_id = p_connection AND m.chat_id = r.chat_id
                  AND m.sender_id = r.sender_id AND m.external_id = r.external_id
            ) k ON true
            ORDER BY r.n
        )
        SELECT ROW (
            j.n, j.chat_id, j.sender_id, j.known_id, j.known_erased, j.first AND j.fills, j.first,
            j.conversation_id,
            CASE WHEN j.first AND j.known_id IS NULL THEN nextval('messages_id_seq') END
        )::imported_row
        FROM judged j
        ORDER BY j.n);
    refused := ARRAY(
        SELECT w.n FROM unnest(v_rows) w WHERE w.chat_id IS NULL OR w.sender_id IS NULL);

    PERFORM set_config('zapvisor.importing', 'off', true);  -- what this makes counts by itself
    FOR v_row IN
        SELECT * FROM unnest(v_rows) w
        WHERE w.new_id IS NOT NULL AND w.conversation_id IS NULL ORDER BY w.n
    LOOP
        v_m := v_messages[v_row.n];
        SELECT f.target INTO v_target FROM find_conversation(
            jsonb_populate_record(NULL::batch_row, jsonb_build_object(
                'connection_id', p_connection, 'chat_id', v_row.chat_id, 'live', false,
                'from_me', v_m.from_me, 'lane', v_m.lane, 'sent_at', v_m.sent_at)),
            p_now) f;
        v_rows[v_row.n].conversation_id := v_target;
    END LOOP;
    PERFORM set_config('zapvisor.importing', 'on', true);
    -- Those of conversations that are merged by now go where these went.
    WHILE EXISTS (
        SELECT FROM unnest(v_rows) w
        JOIN conversations v ON v.connection_id = p_connection AND v.id = w.conversation_id
        WHERE w.new_id IS NOT NULL AND v.merged_into IS NOT NULL)
    LOOP
        v_rows := ARRAY(
            SELECT ROW (w.n, w.chat_id, w.sender_id, w.known_id, w.known_erased, w.fills, w.first,
                coalesce(v.merged_into, w.conversation_id), w.new_id)::imported_row
            FROM unnest(v_rows) w
            LEFT JOIN conversations v ON v.connection_id = p_connection
                AND v.id = w.conversation_id
            ORDER BY w.n);
    END LOOP;

    -- Edits of messages that have lost their content since.
    FOR v_row IN
        SELECT * FROM unnest(v_rows) w
        WHERE w.new_id IS NOT NULL AND (v_messages[w.n]).kind = 'edit'
          AND (v_messages[w.n]).erased IS NULL
    LOOP
        v_m := v_messages[v_row.n];
        SELECT o.erased, o.erased_at INTO v_m.erased, v_m.erased_at FROM messages o
        WHERE o.connection_id = p_connection AND o.chat_id = v_row.chat_id
          AND o.sender_id = v_row.sender_id AND o.external_id = v_m.target_id
          AND o.erased_at >= coalesce(v_m.filled_at, v_m.received_at);
        IF FOUND THEN
            v_m.reason := NULL;
            v_m.quoted_id := NULL;
            v_m.quoted_author := NULL;
            v_m.mentions := NULL;
            v_m.flags := NULL;
            v_m.detail := NULL;
            v_m.media := NULL;
            v_messages[v_row.n] := v_m;
            p_texts[v_row.n] := NULL;
            p_raws[v_row.n] := '';
        END IF;
    END LOOP;

    SELECT arrivals INTO STRICT v_arrivals FROM counters WHERE connection_id = p_connection;
    INSERT INTO messages (
        connection_id, id, chat_id, sender_id, external_id, conversation_id, arrival, kind, state,
        from_me, lane, remote_timestamp, sent_at, received_at, filled_at, retries, reason, text,
        raw, target_id, target_author, quoted_id, quoted_author, mentions, flags, detail, verdict,
        erased, erased_at)
    SELECT p_connection, w.new_id, w.chat_id, w.sender_id, (w.m).external_id, w.conversation_id,
        v_arrivals + row_number() OVER (ORDER BY w.n), (w.m).kind, (w.m).state, (w.m).from_me,
        (w.m).lane, (w.m).remote_timestamp, (w.m).sent_at, (w.m).received_at, (w.m).filled_at,
        (w.m).retries, (w.m).reason, p_texts[w.n], p_raws[w.n], (w.m).target_id,
        (w.m).target_author, (w.m).quoted_id, (w.m).quoted_author, (w.m).mentions, (w.m).flags,
        (w.m).detail, (w.m).verdict, (w.m).erased, (w.m).erased_at
    FROM (
        SELECT r.*, v_messages[r.n] AS m FROM unnest(v_rows) r
        WHERE r.new_id IS NOT NULL
        OFFSET 0
    ) w
    ORDER BY w.n;
    GET DIAGNOSTICS made = ROW_COUNT;

    -- Placeholders that get their message.
    WITH content AS (
        UPDATE messages s SET
            kind = (w.m).kind, state = 'stored', text = p_texts[w.n], raw = p_raws[w.n],
            lane = CASE (w.m).lane WHEN 'side' THEN 'side' ELSE s.lane END,
            reason = NULL, verdict = NULL, filled_at = p_now,
            target_id = (w.m).target_id, target_author = (w.m).target_author,
            quoted_id = (w.m).quoted_id, quoted_author = (w.m).quoted_author,
            mentions = (w.m).mentions, flags = (w.m).flags, detail = (w.m).detail
        FROM (
            SELECT r.*, v_messages[r.n] AS m FROM unnest(v_rows) r
            WHERE r.fills
            OFFSET 0
        ) w
        WHERE s.connection_id = p_connection AND s.id = w.known_id
        RETURNING s.connection_id, s.id
    )
    INSERT INTO search_again (connection_id, message_id)
    SELECT f.connection_id, f.id FROM content f
    ON CONFLICT (connection_id, message_id) DO UPDATE SET message_id = excluded.message_id;
    GET DIAGNOSTICS filled = ROW_COUNT;

    -- Their files: as they are in the archive, but nothing that is here gets worse.
    WITH brought AS (
        INSERT INTO media AS f (connection_id, message_id, kind, mimetype, size, name, sha256, live,
            state, direct_path, blob_sha256, blob_size, error, stored_at)
        SELECT p_connection, w.id, w.f ->> 'kind', w.f ->> 'mimetype', (w.f ->> 'size')::bigint,
            w.f ->> 'name', decode(w.f ->> 'sha256', 'hex'), (w.f ->> 'live')::boolean,
            w.f ->> 'state', w.f ->> 'direct_path', decode(w.f ->> 'blob_sha256', 'hex'),
            (w.f ->> 'blob_size')::bigint, w.f ->> 'error', (w.f ->> 'stored_at')::timestamptz
        FROM (
            SELECT r.n, coalesce(r.new_id, r.known_id) AS id, (v_messages[r.n]).media AS f
            FROM unnest(v_rows) r
            WHERE r.first AND r.known_erased IS NOT TRUE AND (v_messages[r.n]).media IS NOT NULL
            OFFSET 0
        ) w
        ORDER BY w.n
        ON CONFLICT (connection_id, message_id) DO UPDATE SET
            state = excluded.state, blob_sha256 = excluded.blob_sha256,
            blob_size = excluded.blob_size, stored_at = excluded.stored_at, error = NULL,
            claimed = false, next_attempt_at = NULL
            WHERE excluded.state = 'stored' AND f.state <> 'stored'
        RETURNING f.message_id
    )
    SELECT count(*) INTO files FROM brought b
    WHERE b.message_id NOT IN (
        SELECT w.new_id FROM unnest(v_rows) w WHERE w.new_id IS NOT NULL);

    INSERT INTO erased_blobs (sha256, erased_at)
    SELECT DISTINCT decode((v_messages[r.n]).media ->> 'blob_sha256', 'hex'), p_now
    FROM unnest(v_rows) r
    WHERE r.known_erased AND (v_messages[r.n]).media ->> 'state' = 'stored'
    ON CONFLICT DO NOTHING;

    -- What they make of their conversations. One that an import made has it from the archive.
    UPDATE conversations v SET
        messages = v.messages + n.messages,
        last_message_at = CASE
            WHEN v.status = 'closed' AND NOT EXISTS (
                SELECT FROM imported_conversations i
                WHERE i.connection_id = v.connection_id AND i.conversation_id = v.id)
            THEN greatest(v.last_message_at, n.last_message_at)
            ELSE v.last_message_at END
    FROM (
        SELECT w.conversation_id, count(*) AS messages,
            max((v_messages[w.n]).sent_at) FILTER (WHERE (v_messages[w.n]).lane <> 'side')
                AS last_message_at
        FROM unnest(v_rows) w WHERE w.new_id IS NOT NULL
        GROUP BY w.conversation_id
    ) n
    WHERE v.connection_id = p_connection AND v.id = n.conversation_id;

    UPDATE counters c SET
        arrivals = c.arrivals + n.arrivals,
        messages = c.messages + n.messages,
        undecryptable = c.undecryptable + n.arrivals - n.messages,
        last_message_at = greatest(c.last_message_at, n.last_message_at)
    FROM (
        SELECT count(w.new_id) AS arrivals,
            count(*) FILTER (WHERE w.fills
                OR w.new_id IS NOT NULL AND (v_messages[w.n]).state = 'stored') AS messages,
            max((v_messages[w.n]).sent_at) FILTER (WHERE w.new_id IS NOT NULL) AS last_message_at
        FROM unnest(v_rows) w WHERE w.first
    ) n
    WHERE c.connection_id = p_connection;
END
$$;

-- Which tombstones there are: another text when there are others.
CREATE FUNCTION tombstones_state() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT count(*) || ' ' || count(t.returned_at) || ' ' || coalesce(max(t.erasure_id), 0)
    FROM tombstones t
$$;

-- One batch of records of one connection, by kind; the answer has, by kind, how many are new, and
-- the numbers of those that name what is not known. Nothing, but "stale", if there are other
-- tombstones than those that the records were held against.
CREATE FUNCTION import_batch(
    p_connection text, p_batch jsonb, p_texts text[], p_raws bytea[], p_stones text
) RETURNS jsonb LANGUAGE plpgsql
-- As in apply_batch: the batch is small, the tables are large.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_connection integer;
    v_made jsonb := '{}';
    v_refused integer[] := '{}';
    v_found record;
    v_count integer;
BEGIN
    PERFORM set_config('zapvisor.importing', 'on', true);
    SELECT id INTO v_connection FROM connections WHERE name = p_connection;
    IF p_batch ? 'connection' AND v_connection IS NULL THEN
        -- Whom any other connection has forgotten, this one has, too.
        LOCK TABLE tombstones IN SHARE MODE;
        IF tombstones_state() <> p_stones THEN
            RETURN '{"stale": true}';
        END IF;
        INSERT INTO connections (name, reopen_window, reopen_from, team_reopens, created_at)
        SELECT p_connection, make_interval(secs => c.reopen_window / 1000000.0),
            c.reopen_from, c.team_reopens, c.created_at
        FROM jsonb_to_record(p_batch -> 'connection') AS c (
            reopen_window bigint, reopen_from text, team_reopens boolean, created_at timestamptz)
        ON CONFLICT (name) DO NOTHING;
        SELECT id INTO STRICT v_connection FROM connections WHERE name = p_connection;
        INSERT INTO tombstones (connection_id, hash, erasure_id, at)
        SELECT DISTINCT ON (t.hash) v_connection, t.hash, t.erasure_id, t.at FROM tombstones t
        ORDER BY t.hash, t.at DESC
        ON CONFLICT DO NOTHING;
        p_stones := tombstones_state();
        INSERT INTO counters (connection_id) VALUES (v_connection) ON CONFLICT DO NOTHING;
        INSERT INTO contacts (connection_id, is_self, created_at)
        SELECT v_connection, true, created_at FROM connections WHERE id = v_connection
        ON CONFLICT DO NOTHING;
        v_made := v_made || jsonb_build_object('connection', 1);
    END IF;
    IF v_connection IS NULL THEN
        RAISE foreign_key_violation
            USING MESSAGE = 'unknown connection ' || quote_literal(p_connection);
    END IF;
    PERFORM FROM counters WHERE connection_id = v_connection FOR UPDATE;
    IF tombstones_state() <> p_stones THEN
        RETURN '{"stale": true}';
    END IF;

    IF p_batch ? 'label' THEN
        INSERT INTO labels AS l (connection_id, id, name, color, deleted, at)
        SELECT DISTINCT ON (n.id) v_connection, n.id, n.name, n.color, n.deleted, n.at
        FROM jsonb_to_recordset(p_batch -> 'label')
            AS n (id text, name text, color integer, deleted boolean, at timestamptz)
        ORDER BY n.id, n.at DESC, n.deleted DESC, n.name COLLATE "C" DESC, n.color DESC
        ON CONFLICT (connection_id, id) DO UPDATE SET name = excluded.name,
            color = excluded.color, deleted = excluded.deleted, at = excluded.at
            WHERE (l.at, l.deleted, l.name COLLATE "C", l.color)
                < (excluded.at, excluded.deleted, excluded.name COLLATE "C", excluded.color);
        GET DIAGNOSTICS v_count = ROW_COUNT;
        v_made := v_made || jsonb_build_object('label', v_count);
    END IF;
    IF p_batch ? 'contact' THEN
        v_made := v_made || jsonb_build_object(
            'contact', import_contacts(v_connection, p_batch -> 'contact', now()));
    END IF;
    IF p_batch ? 'group' THEN
        v_made := v_made || jsonb_build_object(
            'group', import_groups(v_connection, p_batch -> 'group'));
    END IF;
    IF p_batch ? 'chat' THEN
        SELECT coalesce(array_agg(n.n) FILTER (WHERE n.contact_id IS NULL), '{}') AS refused
        INTO v_found
        FROM (
            SELECT n.n, a.contact_id
            FROM jsonb_to_recordset(p_batch -> 'chat') AS n (n integer, kind text, address text)
            LEFT JOIN contact_addresses a ON a.connection_id = v_connection
                AND a.address = n.address
            WHERE n.kind = 'direct'
        ) n;
        v_refused := v_refused || v_found.refused;
        INSERT INTO chats (connection_id, kind, address, contact_id, created_at)
        SELECT v_connection, n.kind,
            CASE n.kind WHEN 'direct' THEN contact_address(v_connection, n.contact_id)
                        ELSE n.address END,
            n.contact_id, n.created_at
        FROM (
            SELECT DISTINCT ON (n.kind, coalesce(a.contact_id::text, n.address))
                n.n, n.kind, n.address, a.contact_id, n.created_at
            FROM jsonb_to_recordset(p_batch -> 'chat')
                AS n (n integer, kind text, address text, created_at timestamptz)
            LEFT JOIN contact_addresses a ON n.kind = 'direct' AND a.connection_id = v_connection
                AND a.address = n.address
            WHERE n.n <> ALL (v_found.refused)
              AND archived_chat(v_connection, n.kind, n.address) IS NULL
            ORDER BY n.kind, coalesce(a.contact_id::text, n.address), n.n
        ) n
        ORDER BY n.n;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        v_made := v_made || jsonb_build_object('chat', v_count);
    END IF;
    IF p_batch ? 'conversation' THEN
        SELECT * INTO v_found
        FROM import_conversations(v_connection, p_batch -> 'conversation');
        v_made := v_made || jsonb_build_object('conversation', v_found.made);
        v_refused := v_refused || v_found.refused;
    END IF;
    IF p_batch ? 'conversation_merged' THEN
        v_made := v_made || jsonb_build_object('conversation_merged',
            import_merged(v_connection, p_batch -> 'conversation_merged'));
    END IF;
    IF p_batch ? 'message' THEN
        SELECT * INTO v_found
        FROM import_messages(v_connection, p_batch -> 'message', p_texts, p_raws, now());
        v_made := v_made || jsonb_build_object('message', v_found.made,
            'filled', v_found.filled, 'file', v_found.files);
        v_refused := v_refused || ARRAY(
            SELECT (p_batch -> 'message' -> (n - 1) ->> 'at')::integer
            FROM unnest(v_found.refused) AS n);
    END IF;
    IF p_batch ? 'receipt' THEN
        INSERT INTO receipts AS r (
            connection_id, external_id, chat, recipient, delivered_at, read_at, played_at)
        SELECT v_connection, n.external_id, n.chat, n.recipient, min(n.delivered_at),
            min(n.read_at), min(n.played_at)
        FROM jsonb_to_recordset(p_batch -> 'receipt') AS n (
            external_id text, chat text, recipient text, delivered_at timestamptz,
            read_at timestamptz, played_at timestamptz)
        GROUP BY n.external_id, n.chat, n.recipient
        ON CONFLICT (connection_id, external_id, chat, recipient) DO UPDATE SET
            delivered_at = least(r.delivered_at, excluded.delivered_at),
            read_at = least(r.read_at, excluded.read_at),
            played_at = least(r.played_at, excluded.played_at)
            WHERE (r.delivered_at, r.read_at, r.played_at) IS DISTINCT FROM (
                least(r.delivered_at, excluded.delivered_at),
                least(r.read_at, excluded.read_at),
                least(r.played_at, excluded.played_at));
        GET DIAGNOSTICS v_count = ROW_COUNT;
        v_made := v_made || jsonb_build_object('receipt', v_count);
    END IF;
    IF p_batch ? 'label_link' THEN
        INSERT INTO label_links AS l (connection_id, chat, label, message_id, labelled, at)
        SELECT DISTINCT ON (n.chat, n.label, coalesce(n.message_id, ''))
            v_connection, n.chat, n.label, coalesce(n.message_id, ''), n.labelled, n.at
        FROM jsonb_to_recordset(p_batch -> 'label_link') AS n (
            chat text, label text, message_id text, labelled boolean, at timestamptz)
        ORDER BY n.chat, n.label, coalesce(n.message_id, ''), n.at DESC, n.labelled DESC
        ON CONFLICT (connection_id, chat, label, message_id) DO UPDATE
            SET labelled = excluded.labelled, at = excluded.at
            WHERE (l.at, l.labelled) < (excluded.at, excluded.labelled);
        GET DIAGNOSTICS v_count = ROW_COUNT;
        v_made := v_made || jsonb_build_object('label_link', v_count);
    END IF;
    IF p_batch ? 'chat_setting' THEN
        INSERT INTO chat_settings AS s (connection_id, address, setting, value, at)
        SELECT DISTINCT ON (n.address, n.setting)
            v_connection, n.address, n.setting, n.value, n.at
        FROM jsonb_to_recordset(p_batch -> 'chat_setting') AS n (
            address text, setting text, value jsonb, at timestamptz)
        ORDER BY n.address, n.setting, n.at DESC, n.value DESC
        ON CONFLICT (connection_id, address, setting) DO UPDATE
            SET value = excluded.value, at = excluded.at
            WHERE (s.at, s.value) < (excluded.at, excluded.value);
        GET DIAGNOSTICS v_count = ROW_COUNT;
        v_made := v_made || jsonb_build_object('chat_setting', v_count);
    END IF;
    RETURN jsonb_build_object('made', v_made, 'refused', to_jsonb(v_refused));
END
$$;

-- Takes away the conversations that an import made and that stayed empty, because all of their
-- messages were here already, in others; how many.
CREATE FUNCTION finish_import(p_connection text) RETURNS integer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_connection integer;
    v_count integer;
BEGIN
    SELECT id INTO v_connection FROM connections WHERE name = p_connection;
    PERFORM FROM counters WHERE connection_id = v_connection FOR UPDATE;
    PERFORM set_config('zapvisor.importing', 'on', true);
    WITH gone AS (
        DELETE FROM conversations v USING imported_conversations i
        WHERE i.connection_id = v_connection AND v.connection_id = v_connection
          AND v.id = i.conversation_id AND i.messages > 0 AND v.messages = 0
          AND v.merged_into IS NULL
          AND NOT EXISTS (
            SELECT FROM messages m
            WHERE m.connection_id = v_connection AND m.conversation_id = v.id)
          AND NOT EXISTS (
            SELECT FROM conversations o
            WHERE o.connection_id = v_connection AND o.chat_id = v.chat_id
              AND o.merged_into = v.id)
        RETURNING v.status, v.reopened
    ), counted AS (
        SELECT count(*) AS gone, count(*) FILTER (WHERE g.status = 'waiting') AS waiting,
            count(*) FILTER (WHERE g.status = 'open') AS opened,
            count(*) FILTER (WHERE g.status = 'closed') AS closed,
            coalesce(sum(g.reopened), 0)::bigint AS reopened
        FROM gone g
    )
    SELECT c.gone INTO v_count
    FROM counted c
    CROSS JOIN LATERAL count_imported(
        v_connection, -c.waiting, -c.opened, -c.closed, -c.reopened) AS done;
    RETURN v_count;
END
$$;
