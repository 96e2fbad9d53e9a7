-- Erasing content: by rules of retention, and of a person on order. docs/privacy.md says what is
-- where.
--
--   * A message that loses its content keeps its row: chat, sender, id, kind and times. So what
--     is delivered again is a duplicate, and what means it (a deletion, a receipt) still finds it.
--   * With a message go its edits, which are its text, too.
--   * Words for the search may be made from the old text at this very moment, so such a message
--     is looked at again: see search_again.

DROP FUNCTION IF EXISTS note_forgotten(jsonb, timestamptz);
DROP FUNCTION IF EXISTS retain_step(integer, bigint, integer, timestamptz, text[], boolean, boolean,
    boolean, timestamptz);
DROP FUNCTION IF EXISTS retain_rest(timestamptz, integer, timestamptz);
DROP FUNCTION IF EXISTS begin_erasure(jsonb, text, text, timestamptz);
DROP FUNCTION IF EXISTS erasure_step(bigint, integer, timestamptz, boolean);
DROP FUNCTION IF EXISTS redact_messages(bigint, integer, bigint[], timestamptz, jsonb, bytea[]);
DROP FUNCTION IF EXISTS erase_rows(text, integer, jsonb, bigint, timestamptz, integer);
DROP FUNCTION IF EXISTS erase_messages(integer, bigint[], text, timestamptz);
DROP FUNCTION IF EXISTS bare_users(text[]);
DROP FUNCTION IF EXISTS erased_before(jsonb, timestamptz);

-- Takes the content of messages away; how many there were that had some, and how many files.
CREATE FUNCTION erase_messages(
    p_connection integer, p_ids bigint[], p_reason text, p_now timestamptz,
    OUT messages bigint, OUT files bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
    v_own text[];
BEGIN
    -- In the order of ids, as whoever else erases does.
    v_ids := ARRAY(
        SELECT m.id FROM messages m
        WHERE m.connection_id = p_connection
          AND m.id = ANY (p_ids || ARRAY(
            SELECT e.id FROM messages o
            JOIN messages e ON e.connection_id = o.connection_id AND e.chat_id = o.chat_id
                AND e.target_id = o.external_id AND e.sender_id = o.sender_id
            WHERE o.connection_id = p_connection AND o.id = ANY (p_ids) AND e.kind = 'edit'))
          AND (m.erased_at IS NULL OR m.erased <> p_reason)
        ORDER BY m.id
        FOR UPDATE);
    UPDATE messages m SET
        erased = p_reason, erased_at = p_now,
        -- What is still to be opened or read anew is of a kind that is not.
        kind = CASE m.kind WHEN 'encrypted_reaction' THEN 'reaction'
                           WHEN 'encrypted_comment' THEN 'comment'
                           WHEN 'secret_encrypted' THEN 'removed'
                           WHEN 'unknown' THEN 'removed'
                           ELSE m.kind END,
        detail = CASE WHEN m.kind = 'poll_vote' THEN '{"options": []}'::jsonb
                      WHEN m.kind = 'event_response' THEN '{"response": null}'::jsonb END,
        verdict = CASE WHEN m.state = 'undecryptable' THEN coalesce(m.verdict, p_reason)
                       ELSE m.verdict END,
        target_author = CASE p_reason WHEN 'forgotten' THEN NULL ELSE m.target_author END,
        text = NULL, raw = '', reason = NULL, quoted_id = NULL, quoted_author = NULL,
        mentions = NULL, flags = NULL
    WHERE m.connection_id = p_connection AND m.id = ANY (v_ids);
    messages := cardinality(v_ids);

    INSERT INTO erased_blobs (sha256, erased_at)
    SELECT DISTINCT f.blob_sha256, p_now FROM media f
    WHERE f.connection_id = p_connection AND f.message_id = ANY (v_ids) AND f.state = 'stored'
    ON CONFLICT DO NOTHING;
    DELETE FROM media f WHERE f.connection_id = p_connection AND f.message_id = ANY (v_ids);
    GET DIAGNOSTICS files = ROW_COUNT;

    DELETE FROM search_documents d
    WHERE d.connection_id = p_connection AND d.message_id = ANY (v_ids);
    INSERT INTO search_again (connection_id, message_id)
    SELECT p_connection, u.id FROM unnest(v_ids) AS u (id) ON CONFLICT DO NOTHING;
    v_own := ARRAY(
        SELECT m.external_id FROM messages m
        WHERE m.connection_id = p_connection AND m.id = ANY (v_ids) AND m.from_me);
    UPDATE outbox o SET body = '{}', payload = NULL
    WHERE o.connection_id = p_connection AND o.external_id = ANY (v_own)
      AND o.state NOT IN ('queued', 'sending');
    UPDATE quarantine q SET stanza = '', raw = '', kept = NULL
    WHERE q.connection_id = p_connection AND q.message_id = ANY (v_ids);
END
$$;

-- A row that a merge keeps, without its content.
CREATE FUNCTION erased_before(p_before jsonb, p_now timestamptz) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT p_before || jsonb_build_object(
        'text', NULL, 'raw', '\x', 'reason', NULL, 'detail', NULL, 'quoted_id', NULL,
        'quoted_author', NULL, 'mentions', NULL, 'flags', NULL, 'erased', 'retention',
        'erased_at', p_now)
$$;

-- One step of a rule through the messages of a connection, in the order of ids: looks at up to
-- p_window above p_after, and strips those that are too old, or only counts them. With p_files it
-- gives up their files alone. The last id looked at is NULL when there are no more.
CREATE FUNCTION retain_step(
    p_connection integer, p_after bigint, p_window integer, p_cutoff timestamptz,
    p_kinds text[], p_files boolean, p_live boolean, p_dry boolean, p_now timestamptz,
    OUT last_id bigint, OUT messages bigint, OUT files bigint
) LANGUAGE plpgsql
SET enable_seqscan = off
SET lock_timeout = '2s'
AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
BEGIN
    messages := 0;
    files := 0;
    SELECT max(w.id),
        array_agg(w.id ORDER BY w.id) FILTER (
            WHERE w.sent_at < p_cutoff AND w.state = 'stored'
              AND (p_kinds IS NULL OR w.kind = ANY (p_kinds))
              AND CASE WHEN p_files THEN true ELSE w.erased_at IS NULL END)
    INTO last_id, v_ids
    FROM (
        SELECT m.id, m.sent_at, m.state, m.kind, m.erased_at FROM messages m
        WHERE m.connection_id = p_connection AND m.id > p_after
        ORDER BY m.id LIMIT p_window
    ) w;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;
    IF NOT p_live THEN
        v_ids := ARRAY(
            SELECT m.id FROM messages m
            JOIN conversations v ON v.connection_id = m.connection_id AND v.id = m.conversation_id
            WHERE m.connection_id = p_connection AND m.id = ANY (v_ids) AND v.status = 'closed');
    END IF;
    IF p_dry THEN
        SELECT count(*) FILTER (WHERE f.state = 'stored' OR NOT p_files) INTO files FROM media f
        WHERE f.connection_id = p_connection AND f.message_id = ANY (v_ids);
        messages := CASE WHEN p_files THEN 0 ELSE cardinality(v_ids) END;
    ELSIF p_files THEN
        INSERT INTO erased_blobs (sha256, erased_at)
        SELECT DISTINCT f.blob_sha256, p_now FROM media f
        WHERE f.connection_id = p_connection AND f.message_id = ANY (v_ids)
          AND f.state = 'stored'
        ON CONFLICT DO NOTHING;
        UPDATE media f SET state = 'removed'
        WHERE f.connection_id = p_connection AND f.message_id = ANY (v_ids)
          AND f.state = 'stored';
        GET DIAGNOSTICS files = ROW_COUNT;
    ELSIF cardinality(v_ids) > 0 THEN
        SELECT e.messages, e.files INTO messages, files
        FROM erase_messages(p_connection, v_ids, 'retention', p_now) e;
    END IF;
END
$$;

-- What else holds content of that age: duplicates that merges keep, messages that were never
-- sent. How many rows; ask again while there are some.
CREATE FUNCTION retain_rest(p_cutoff timestamptz, p_limit integer, p_now timestamptz)
RETURNS bigint LANGUAGE plpgsql
SET lock_timeout = '2s'
AS $$
DECLARE
    v_rows bigint;
    v_all bigint;
BEGIN
    UPDATE contact_merge_rows r SET before = CASE r.kind
        WHEN 'duplicate' THEN erased_before(r.before, p_now)
        ELSE r.before || '{"name": null}' END
    WHERE r.ctid = ANY (ARRAY(
        SELECT o.ctid FROM contact_merge_rows o
        JOIN contact_merges m ON m.connection_id = o.connection_id AND m.id = o.merge_id
        WHERE o.kind = 'duplicate' AND (o.before ->> 'erased_at') IS NULL
              AND (o.before ->> 'sent_at')::timestamptz < p_cutoff
           OR o.kind = 'media' AND (o.before ->> 'name') IS NOT NULL AND m.merged_at < p_cutoff
        LIMIT p_limit));
    GET DIAGNOSTICS v_all = ROW_COUNT;
    UPDATE outbox o SET body = '{}', payload = NULL
    WHERE o.ctid = ANY (ARRAY(
        SELECT x.ctid FROM outbox x
        WHERE x.created_at < p_cutoff AND x.state IN ('failed', 'unknown')
          AND (x.body <> '{}' OR x.payload IS NOT NULL)
        LIMIT p_limit));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_all + v_rows;
END
$$;

-- The user parts of addresses that are long enough to be looked for inside texts.
CREATE FUNCTION bare_users(p_addresses text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(array_agg(DISTINCT split_part(a.address, '@', 1)), '{}')
    FROM unnest(p_addresses) AS a (address)
    WHERE length(split_part(a.address, '@', 1)) >= 6
$$;

-- The order to forget a person: p_targets has, for each connection, its id, their contacts,
-- addresses and the hashes of those. From now on their addresses are nobody's, so what comes
-- later is of a new contact; and nothing waits to be sent to them.
CREATE FUNCTION begin_erasure(p_targets jsonb, p_by text, p_version text, p_now timestamptz)
RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_id bigint;
    v_target jsonb;
    v_work jsonb := '[]';
    v_connection integer;
    v_contacts bigint[];
    v_chats bigint[];
    v_addresses text[];
    v_names bigint := 0;
    v_rows bigint;
BEGIN
    PERFORM FROM counters c
    WHERE c.connection_id IN (
        SELECT (x ->> 'connection_id')::integer FROM jsonb_array_elements(p_targets) AS x)
    ORDER BY c.connection_id FOR UPDATE;
    INSERT INTO erasures (requested_by, version, requested_at, connections, subject, phase, work)
    SELECT p_by, p_version, p_now,
        ARRAY(SELECT c.name FROM connections c
              WHERE c.id IN (SELECT (x ->> 'connection_id')::integer
                             FROM jsonb_array_elements(p_targets) AS x)
              ORDER BY c.name COLLATE "C"),
        ARRAY(SELECT DISTINCT h FROM jsonb_array_elements(p_targets) AS x,
                jsonb_array_elements_text(x -> 'hashes') AS h ORDER BY h),
        'collect', '[]'
    RETURNING id INTO v_id;
    FOR v_target IN SELECT x FROM jsonb_array_elements(p_targets) AS x LOOP
        v_connection := (v_target ->> 'connection_id')::integer;
        v_contacts := ARRAY(
            SELECT x::bigint FROM jsonb_array_elements_text(v_target -> 'contacts') AS x);
        v_addresses := ARRAY(SELECT jsonb_array_elements_text(v_target -> 'addresses'));
        v_chats := ARRAY(
            SELECT k.id FROM chats k
            WHERE k.connection_id = v_connection AND k.kind = 'direct'
              AND k.contact_id = ANY (v_contacts));
        INSERT INTO tombstones (connection_id, hash, erasure_id, at)
        SELECT v_connection, decode(h, 'hex'), v_id, p_now
        FROM jsonb_array_elements_text(v_target -> 'hashes') AS h
        ON CONFLICT (connection_id, hash) DO UPDATE SET
            erasure_id = excluded.erasure_id, at = excluded.at, returned_at = NULL;
        UPDATE outbox o SET
            state = CASE o.state WHEN 'queued' THEN 'failed' ELSE o.state END,
            reason = CASE o.state WHEN 'queued' THEN 'forgotten' ELSE o.reason END,
            updated_at = p_now, chat = 'forgotten-' || o.id || '@removed',
            key = 'forgotten-' || o.id, body = '{}', payload = NULL,
            fingerprint = decode(repeat('00', 32), 'hex')
        WHERE o.connection_id = v_connection AND o.state IN ('queued', 'sending')
          AND o.chat = ANY (v_addresses);
        UPDATE exports x SET request = x.request || '{"contact": "forgotten@removed"}'
        FROM connections c
        WHERE c.id = v_connection AND coalesce(x.request ->> 'connection', c.name) = c.name
          AND x.request ->> 'contact' = ANY (v_addresses);
        UPDATE conversations SET status = 'closed', closed_at = p_now
        WHERE connection_id = v_connection AND chat_id = ANY (v_chats) AND status <> 'closed';
        UPDATE chats SET address = 'forgotten-' || id || '@removed'
        WHERE connection_id = v_connection AND id = ANY (v_chats);
        DELETE FROM contact_names
        WHERE connection_id = v_connection AND address = ANY (v_addresses);
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_names := v_names + v_rows;
        DELETE FROM contact_addresses
        WHERE connection_id = v_connection AND address = ANY (v_addresses);
        UPDATE contact_merges SET undone_at = p_now  -- so that nobody puts back what is going
        WHERE connection_id = v_connection AND undone_at IS NULL
          AND (survivor_id = ANY (v_contacts) OR merged_id = ANY (v_contacts));
        v_work := v_work || jsonb_build_object(
            'connection_id', v_connection, 'contacts', to_jsonb(v_contacts),
            'chats', to_jsonb(v_chats), 'addresses', to_jsonb(v_addresses),
            'newest', (SELECT coalesce(max(m.id), 0) FROM messages m
                       WHERE m.connection_id = v_connection),
            'newest_event', (SELECT coalesce(max(e.id), 0) FROM events e));
    END LOOP;
    UPDATE erasures SET work = v_work, counts = jsonb_build_object(
        'addresses', cardinality(subject), 'names', v_names)
    WHERE id = v_id;
    RETURN v_id;
END
$$;

-- Messages of others without what named the person, as p_messages has them (their raw bytes in
-- p_raws, by position), and those that go whole. They are settled with that. One that somebody has
-- changed since it was read, such as a rule of retention, is left as it is, to be read again.
CREATE FUNCTION redact_messages(
    p_erasure bigint, p_connection integer, p_whole bigint[], p_now timestamptz,
    p_messages jsonb, p_raws bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[] := p_whole || ARRAY(
        SELECT (x ->> 'id')::bigint FROM jsonb_array_elements(p_messages) AS x);
    v_done bigint[];
BEGIN
    PERFORM erase_messages(p_connection, p_whole, 'forgotten', p_now);
    WITH changed AS (
        UPDATE messages m SET text = n.text, raw = p_raws[n.ord], detail = n.detail,
            quoted_id = n.quoted_id, quoted_author = n.quoted_author,
            target_author = n.target_author, mentions = n.mentions
        FROM ROWS FROM (
            jsonb_to_recordset(p_messages) AS (
                id bigint, version text, text text, detail jsonb, quoted_id text,
                quoted_author text, target_author text, mentions text[])
        ) WITH ORDINALITY AS n (
            id, version, text, detail, quoted_id, quoted_author, target_author, mentions, ord)
        WHERE m.connection_id = p_connection AND m.id = n.id AND m.xmin::text = n.version
        RETURNING m.id
    ), worded AS (
        DELETE FROM search_documents d USING changed c
        WHERE d.connection_id = p_connection AND d.message_id = c.id
    ), again AS (
        INSERT INTO search_again (connection_id, message_id)
        SELECT p_connection, c.id FROM changed c ON CONFLICT DO NOTHING
    )
    SELECT p_whole || ARRAY(SELECT c.id FROM changed c) INTO v_done;
    DELETE FROM erasure_items i
    WHERE i.connection_id = p_connection AND i.erasure_id = p_erasure AND NOT i.theirs
      AND i.message_id = ANY (v_done);
    UPDATE erasures e SET
        position = greatest(e.position, (  -- past those that are dead, and not yet gone
            SELECT coalesce(min(u.id) FILTER (WHERE u.id <> ALL (v_done)) - 1, max(u.id))
            FROM unnest(v_ids) AS u (id))),
        counts = e.counts || jsonb_build_object(
            'naming', coalesce((e.counts ->> 'naming')::bigint, 0) + cardinality(v_done))
    WHERE e.id = p_erasure AND cardinality(v_done) > 0;
END
$$;

-- The rows of one kind that are a person's, up to p_limit of them; how many there were.
CREATE FUNCTION erase_rows(
    p_kind text, p_connection integer, p_work jsonb, p_erasure bigint, p_before timestamptz,
    p_limit integer
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_addresses text[] := ARRAY(SELECT jsonb_array_elements_text(p_work -> 'addresses'));
    v_users text[] := ARRAY(
        SELECT split_part(a, '@', 1) FROM jsonb_array_elements_text(p_work -> 'addresses') AS a);
    v_contacts bigint[] := ARRAY(
        SELECT x::bigint FROM jsonb_array_elements_text(p_work -> 'contacts') AS x);
    v_rows bigint;
    v_more bigint := 0;
BEGIN
    CASE p_kind
    WHEN 'receipts' THEN
        DELETE FROM receipts WHERE ctid = ANY (ARRAY(
            SELECT r.ctid FROM receipts r
            WHERE r.connection_id = p_connection
              AND (r.recipient = ANY (v_addresses) OR r.chat = ANY (v_addresses))
            LIMIT p_limit));
    WHEN 'handled' THEN
        DELETE FROM handled_stanzas WHERE ctid = ANY (ARRAY(
            SELECT h.ctid FROM handled_stanzas h
            WHERE h.connection_id = p_connection
              AND (split_part(h.key, ' ', 1) = ANY (v_addresses)
                OR split_part(h.key, ' ', 2) = ANY (v_addresses))
            LIMIT p_limit));
    WHEN 'memberships' THEN
        UPDATE groups SET owner = NULL
        WHERE connection_id = p_connection AND owner = ANY (v_addresses);
        GET DIAGNOSTICS v_more = ROW_COUNT;
        DELETE FROM group_members WHERE ctid = ANY (ARRAY(
            SELECT g.ctid FROM group_members g
            WHERE g.connection_id = p_connection AND g.address = ANY (v_addresses)
              AND g.at <= p_before
            LIMIT p_limit));
    WHEN 'settings' THEN
        DELETE FROM label_links
        WHERE connection_id = p_connection AND chat = ANY (v_addresses) AND at <= p_before;
        GET DIAGNOSTICS v_more = ROW_COUNT;
        DELETE FROM history_chats WHERE connection_id = p_connection AND chat = ANY (v_addresses);
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_more := v_more + v_rows;
        DELETE FROM chat_settings
        WHERE connection_id = p_connection AND address = ANY (v_addresses) AND at <= p_before;
    WHEN 'devices' THEN
        DELETE FROM device_lists
        WHERE connection_id = p_connection AND account = ANY (v_addresses) AND at <= p_before;
    WHEN 'sessions' THEN
        DELETE FROM signal_identities
        WHERE connection_id = p_connection AND updated_at <= p_before
          AND split_part(split_part(key, '.', 1), '_', 1) = ANY (v_users);
        GET DIAGNOSTICS v_more = ROW_COUNT;
        DELETE FROM signal_sender_keys
        WHERE connection_id = p_connection AND updated_at <= p_before
          AND split_part(split_part(split_part(key, '::', 2), '.', 1), '_', 1) = ANY (v_users);
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_more := v_more + v_rows;
        DELETE FROM signal_sessions
        WHERE connection_id = p_connection AND updated_at <= p_before
          AND split_part(split_part(key, '.', 1), '_', 1) = ANY (v_users);
    WHEN 'merges' THEN
        DELETE FROM contact_merge_rows WHERE ctid = ANY (ARRAY(
            SELECT r.ctid FROM contact_merge_rows r
            JOIN contact_merges m ON m.connection_id = r.connection_id AND m.id = r.merge_id
            WHERE r.connection_id = p_connection
              AND (m.survivor_id = ANY (v_contacts) OR m.merged_id = ANY (v_contacts)
                OR r.kind = 'duplicate' AND EXISTS (
                    SELECT FROM unnest(bare_users(v_addresses)) AS u (name)
                    WHERE strpos(r.before::text, u.name) > 0
                       OR strpos(r.before ->> 'raw', encode(convert_to(u.name, 'UTF8'), 'hex')) > 0))
            LIMIT p_limit));
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        IF v_rows = 0 THEN
            DELETE FROM contact_merges
            WHERE connection_id = p_connection
              AND (survivor_id = ANY (v_contacts) OR merged_id = ANY (v_contacts));
        END IF;
        RETURN v_rows;
    END CASE;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows + v_more;
END
$$;

-- One bounded step of an erasure, and where it is then. It stands still in the phases that need
-- more than SQL: "naming", "quarantine" and "files"; and is over in "done".
CREATE FUNCTION erasure_step(p_id bigint, p_limit integer, p_now timestamptz, p_advance boolean)
RETURNS text LANGUAGE plpgsql
SET lock_timeout = '2s'
AS $$
#variable_conflict use_column
DECLARE
    c_phases CONSTANT text[] := ARRAY['collect', 'messages', 'naming', 'quarantine', 'receipts',
        'handled', 'memberships', 'settings', 'devices', 'sessions', 'outbox', 'events', 'merges',
        'files', 'done'];
    v_erasure erasures;
    v_work jsonb;
    v_connection integer;
    v_last bigint;
    v_rows bigint := 0;
    v_files bigint := 0;
    v_over boolean := p_advance;
    v_ids bigint[];
    v_contacts bigint[];
    v_chats bigint[];
    v_addresses text[];
    v_users text[];
    v_raw_users bytea[];
BEGIN
    SELECT * INTO STRICT v_erasure FROM erasures WHERE id = p_id FOR UPDATE;
    v_work := v_erasure.work -> v_erasure.target;
    v_connection := (v_work ->> 'connection_id')::integer;
    CASE
    WHEN v_erasure.phase = 'done' THEN
        RETURN 'done';
    WHEN v_erasure.phase IN ('naming', 'quarantine', 'files') THEN
        NULL;
    WHEN v_erasure.phase = 'collect' THEN
        v_contacts := ARRAY(SELECT x::bigint FROM jsonb_array_elements_text(v_work -> 'contacts') x);
        v_chats := ARRAY(SELECT x::bigint FROM jsonb_array_elements_text(v_work -> 'chats') x);
        v_addresses := ARRAY(SELECT jsonb_array_elements_text(v_work -> 'addresses'));
        v_users := bare_users(v_addresses);
        v_raw_users := ARRAY(SELECT convert_to(u, 'UTF8') FROM unnest(v_users) AS u);
        WITH looked AS MATERIALIZED (
            SELECT m.id, m.sender_id = ANY (v_contacts) OR m.chat_id = ANY (v_chats) AS theirs,
                m.quoted_author, m.target_author, m.mentions, m.text, m.detail, m.raw
            FROM messages m
            WHERE m.connection_id = v_connection AND m.id > v_erasure.position
              AND m.id <= (v_work ->> 'newest')::bigint
            ORDER BY m.id LIMIT 2 * p_limit
        ), found AS (
            INSERT INTO erasure_items (connection_id, erasure_id, message_id, theirs)
            SELECT v_connection, p_id, l.id, l.theirs FROM looked l
            WHERE l.theirs OR l.quoted_author = ANY (v_addresses)
              OR l.target_author = ANY (v_addresses) OR l.mentions && v_addresses
              OR EXISTS (
                SELECT FROM unnest(v_users, v_raw_users) AS u (name, raw)
                WHERE strpos(l.text, u.name) > 0 OR strpos(l.detail::text, u.name) > 0
                   OR position(u.raw IN l.raw) > 0)
            ON CONFLICT DO NOTHING
        )
        SELECT max(l.id) INTO v_last FROM looked l;
        v_over := v_last IS NULL;
        UPDATE erasures SET position = coalesce(v_last, position) WHERE id = p_id;
    WHEN v_erasure.phase = 'messages' THEN
        v_ids := ARRAY(
            SELECT i.message_id FROM erasure_items i
            WHERE i.connection_id = v_connection AND i.erasure_id = p_id AND i.theirs
              AND i.message_id > v_erasure.position  -- past those that are dead, and not yet gone
            ORDER BY i.message_id LIMIT p_limit);
        SELECT e.messages, e.files INTO v_rows, v_files
        FROM erase_messages(v_connection, v_ids, 'forgotten', p_now) e;
        DELETE FROM erasure_items i
        WHERE i.connection_id = v_connection AND i.erasure_id = p_id
          AND i.message_id = ANY (v_ids);
        v_over := cardinality(v_ids) < p_limit;
        UPDATE erasures SET position = coalesce(v_ids[cardinality(v_ids)], position)
        WHERE id = p_id;
    WHEN v_erasure.phase = 'outbox' THEN
        v_addresses := ARRAY(SELECT jsonb_array_elements_text(v_work -> 'addresses'));
        v_users := bare_users(v_addresses);
        v_raw_users := ARRAY(SELECT convert_to(u, 'UTF8') FROM unnest(v_users) AS u);
        WITH looked AS MATERIALIZED (
            SELECT o.id, o.chat, o.created_at, o.state, o.body, o.payload FROM outbox o
            WHERE o.connection_id = v_connection AND o.id > v_erasure.position
            ORDER BY o.id LIMIT 2 * p_limit
        ), theirs AS (
            UPDATE outbox o SET
                chat = 'forgotten-' || o.id || '@removed', key = 'forgotten-' || o.id, body = '{}',
                payload = NULL, fingerprint = decode(repeat('00', 32), 'hex')
            FROM looked l
            WHERE o.connection_id = v_connection AND o.id = l.id AND l.chat = ANY (v_addresses)
              AND l.created_at <= v_erasure.requested_at
            RETURNING o.id
        ), naming AS (
            -- Of messages to others, those that name the person; what is still to be sent stays.
            UPDATE outbox o SET body = '{}', payload = NULL
            FROM looked l
            WHERE o.connection_id = v_connection AND o.id = l.id
              AND (l.chat <> ALL (v_addresses) OR l.created_at > v_erasure.requested_at)
              AND l.state NOT IN ('queued', 'sending')
              AND EXISTS (
                SELECT FROM unnest(v_users, v_raw_users) AS u (name, raw)
                WHERE strpos(l.body::text, u.name) > 0 OR position(u.raw IN l.payload) > 0)
            RETURNING o.id
        )
        SELECT max(l.id), (SELECT count(*) FROM theirs) + (SELECT count(*) FROM naming)
        INTO v_last, v_rows FROM looked l;
        v_over := v_last IS NULL;
        UPDATE erasures SET position = coalesce(v_last, position) WHERE id = p_id;
    WHEN v_erasure.phase = 'events' THEN
        WITH looked AS MATERIALIZED (
            SELECT e.id, e.connection, e.data FROM events e
            WHERE e.id > v_erasure.position AND e.id <= (v_work ->> 'newest_event')::bigint
            ORDER BY e.id LIMIT 4 * p_limit
        ), changed AS (
            UPDATE events e SET data = e.data || '{"chat": "forgotten@removed"}'
            FROM looked l
            WHERE e.id = l.id
              AND l.connection = (SELECT c.name FROM connections c WHERE c.id = v_connection)
              AND (v_work -> 'addresses') ? (l.data ->> 'chat')
            RETURNING e.id
        )
        SELECT max(l.id), (SELECT count(*) FROM changed) INTO v_last, v_rows FROM looked l;
        v_over := v_last IS NULL;
        UPDATE erasures SET position = coalesce(v_last, position) WHERE id = p_id;
    ELSE
        -- Rows that are looked for in the whole table: better many at once.
        v_rows := erase_rows(v_erasure.phase, v_connection, v_work, p_id,
            v_erasure.requested_at, 10 * p_limit);
        v_over := v_rows = 0;
    END CASE;
    UPDATE erasures e SET
        counts = e.counts
            || CASE WHEN v_rows > 0 THEN jsonb_build_object(
                v_erasure.phase, coalesce((e.counts ->> v_erasure.phase)::bigint, 0) + v_rows)
               ELSE '{}' END
            || CASE WHEN v_files > 0 THEN jsonb_build_object(
                'files', coalesce((e.counts ->> 'files')::bigint, 0) + v_files)
               ELSE '{}' END,
        target = CASE WHEN NOT v_over THEN e.target
                      WHEN e.target + 1 < jsonb_array_length(e.work) THEN e.target + 1
                      ELSE 0 END,
        position = CASE WHEN v_over THEN 0 ELSE e.position END,
        phase = CASE WHEN NOT v_over OR e.target + 1 < jsonb_array_length(e.work) THEN e.phase
                     ELSE c_phases[array_position(c_phases, e.phase) + 1] END
    WHERE e.id = p_id
    RETURNING * INTO v_erasure;
    IF v_erasure.phase = 'done' THEN
        UPDATE erasures SET work = NULL, finished_at = p_now WHERE id = p_id;
    END IF;
    RETURN v_erasure.phase;
END
$$;

-- With a batch: how many messages were not taken in, by connection; who has come back; and new
-- addresses of people who have not.
CREATE FUNCTION note_forgotten(p_notes jsonb, p_now timestamptz) RETURNS void LANGUAGE sql AS $$
    UPDATE counters k SET forgotten = k.forgotten + n.value::bigint
    FROM jsonb_each_text(p_notes -> 'dropped') AS n
    JOIN connections c ON c.name = n.key
    WHERE k.connection_id = c.id;
    UPDATE tombstones t SET returned_at = p_now
    FROM jsonb_to_recordset(p_notes -> 'returned') AS r (connection text, hash text)
    JOIN connections c ON c.name = r.connection
    WHERE t.connection_id = c.id AND t.hash = decode(r.hash, 'hex') AND t.returned_at IS NULL;
    INSERT INTO tombstones (connection_id, hash, erasure_id, at)
    SELECT c.id, decode(r.hash, 'hex'), t.erasure_id, t.at
    FROM jsonb_to_recordset(p_notes -> 'joined') AS r (connection text, hash text, known text)
    JOIN connections c ON c.name = r.connection
    JOIN tombstones t ON t.connection_id = c.id AND t.hash = decode(r.known, 'hex')
    ON CONFLICT DO NOTHING;
$$;
