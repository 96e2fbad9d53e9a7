-- One person, many addresses: contacts become one when that shows, and two again on order.
--
-- A merge moves what hangs on contact and chat: addresses, the direct chat, conversations,
-- messages. Everything else is kept under addresses and follows them by itself. Each row that
-- changes is kept as it was, in contact_merge_rows; unmerge_contacts puts it back.
--   * Of two direct chats the older one survives, with the conversations of both.
--   * Of two live conversations the one made first survives and takes the messages of the other,
--     which is closed and says where they went.
--   * A message that both had is one: the complete one before a placeholder, the live one before
--     that from the history, then the first. A conversation left empty by that is closed likewise.

DROP FUNCTION IF EXISTS apply_pairs(jsonb, timestamptz);
DROP FUNCTION IF EXISTS unmerge_contacts(bigint, timestamptz);
DROP FUNCTION IF EXISTS merge_contacts(integer, bigint, bigint, text, timestamptz);
DROP FUNCTION IF EXISTS merge_messages(
    integer, bigint, bigint, bigint, bigint, bigint, bigint, bigint, timestamptz);
DROP FUNCTION IF EXISTS recount_conversations(integer, bigint[]);
DROP FUNCTION IF EXISTS add_media(integer, bigint, jsonb);

-- The address under which a contact is shown: the phone number learned last, else any other.
CREATE OR REPLACE FUNCTION contact_address(p_connection integer, p_contact bigint)
RETURNS text LANGUAGE sql STABLE AS $$
    SELECT a.address FROM contact_addresses a
    WHERE a.connection_id = p_connection AND a.contact_id = p_contact
    ORDER BY a.address LIKE '%@s.whatsapp.net' DESC, a.created_at DESC, a.address COLLATE "C"
    LIMIT 1
$$;

-- The name under which a contact is shown: of each source the newest, then the best source.
CREATE OR REPLACE FUNCTION contact_name(p_connection integer, p_contact bigint)
RETURNS text LANGUAGE sql STABLE AS $$
    SELECT newest.name FROM (
        SELECT DISTINCT ON (n.source) n.source, n.name
        FROM contact_addresses a
        JOIN contact_names n ON n.connection_id = a.connection_id AND n.address = a.address
        WHERE a.connection_id = p_connection AND a.contact_id = p_contact
        ORDER BY n.source, n.at DESC, n.name COLLATE "C" DESC
    ) newest
    WHERE newest.name <> ''
    ORDER BY array_position(ARRAY['saved', 'business', 'push', 'username'], newest.source)
    LIMIT 1
$$;

-- Addresses that are one person's, besides those of the messages.
CREATE FUNCTION apply_pairs(p_pairs jsonb, p_now timestamptz) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_pair record;
BEGIN
    FOR v_pair IN
        SELECT c.id, p.address, p.alternative, p.is_self, p.source
        FROM ROWS FROM (
            jsonb_to_recordset(p_pairs) AS (
                connection text, address text, alternative text, is_self boolean, source text)
        ) WITH ORDINALITY AS p (connection, address, alternative, is_self, source, ord)
        JOIN connections c ON c.name = p.connection
        ORDER BY p.ord
    LOOP
        -- What an earlier pair changed shows here: each look-up is a statement of its own.
        IF (SELECT count(*) < 1 + (v_pair.alternative IS NOT NULL)::integer
                OR min(contact_id) <> max(contact_id)
                OR v_pair.is_self AND NOT bool_and(s.is_self)
            FROM contact_addresses a
            JOIN contacts s ON s.connection_id = a.connection_id AND s.id = a.contact_id
            WHERE a.connection_id = v_pair.id
              AND a.address IN (v_pair.address, v_pair.alternative))
        THEN
            PERFORM resolve_contact(
                v_pair.id, v_pair.address, v_pair.alternative, v_pair.is_self, v_pair.source,
                p_now);
        END IF;
    END LOOP;
END
$$;

-- The file of a message that is complete now; those of live messages are fetched first.
CREATE FUNCTION add_media(p_connection integer, p_message bigint, p_media jsonb)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO media (connection_id, message_id, kind, mimetype, size, name, sha256, live)
    SELECT m.connection_id, m.id, p_media ->> 'kind', p_media ->> 'mimetype',
        (p_media ->> 'size')::bigint, p_media ->> 'name', decode(p_media ->> 'sha256', 'hex'),
        m.lane <> 'history'
    FROM messages m WHERE m.connection_id = p_connection AND m.id = p_message
    ON CONFLICT DO NOTHING
$$;

-- Counts the messages of conversations from which some went away.
CREATE FUNCTION recount_conversations(p_connection integer, p_conversations bigint[])
RETURNS void LANGUAGE sql AS $$
    UPDATE conversations v SET
        messages = (
            SELECT count(*) FROM messages m
            WHERE m.connection_id = v.connection_id AND m.conversation_id = v.id),
        last_message_at = coalesce((
            SELECT max(m.sent_at) FROM messages m
            WHERE m.connection_id = v.connection_id AND m.conversation_id = v.id
              AND m.lane <> 'side'), v.last_message_at)
    WHERE v.connection_id = p_connection AND v.id = ANY (p_conversations)
$$;

-- Makes one contact of two; the caller holds the connection's counters.
CREATE FUNCTION merge_contacts(
    p_connection integer, p_survivor bigint, p_merged bigint, p_source text, p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_merge bigint;
    v_kept chats;
    v_gone chats;
    v_live conversations[];
BEGIN
    INSERT INTO contact_merges (connection_id, survivor_id, merged_id, source, merged_at)
    VALUES (p_connection, p_survivor, p_merged, p_source, p_now) RETURNING id INTO v_merge;
    WITH moved AS (
        UPDATE contact_addresses SET contact_id = p_survivor
        WHERE connection_id = p_connection AND contact_id = p_merged
        RETURNING address)
    INSERT INTO contact_merge_rows (connection_id, merge_id, kind, before)
    SELECT p_connection, v_merge, 'address', jsonb_build_object('address', address)
    FROM moved ORDER BY address;
    UPDATE contacts SET merged_into = p_survivor
    WHERE connection_id = p_connection AND id = p_merged;

    INSERT INTO contact_merge_rows (connection_id, merge_id, kind, before)
    SELECT p_connection, v_merge, 'chat', to_jsonb(k) FROM chats k
    WHERE connection_id = p_connection AND kind = 'direct'
      AND contact_id IN (p_survivor, p_merged)
    ORDER BY id;
    SELECT * INTO v_kept FROM chats
    WHERE connection_id = p_connection AND kind = 'direct'
      AND contact_id IN (p_survivor, p_merged)
    ORDER BY id LIMIT 1;
    SELECT * INTO v_gone FROM chats
    WHERE connection_id = p_connection AND kind = 'direct'
      AND contact_id IN (p_survivor, p_merged) AND id <> v_kept.id;

    IF v_gone.id IS NOT NULL THEN
        v_live := ARRAY(
            SELECT v FROM conversations v
            WHERE connection_id = p_connection AND chat_id IN (v_kept.id, v_gone.id)
              AND status <> 'closed'
            ORDER BY id);
        INSERT INTO contact_merge_rows (connection_id, merge_id, kind, before)
        SELECT p_connection, v_merge, 'conversation', to_jsonb(v) FROM conversations v
        WHERE connection_id = p_connection
          AND (chat_id = v_gone.id
            OR cardinality(v_live) = 2 AND id IN ((v_live[1]).id, (v_live[2]).id))
        ORDER BY id;
        IF cardinality(v_live) = 2 THEN
            UPDATE conversations SET
                status = 'closed', closed_at = p_now, merged_into = (v_live[1]).id
            WHERE connection_id = p_connection AND id = (v_live[2]).id;
            UPDATE conversations SET
                opened_at = least(opened_at, (v_live[2]).opened_at),
                last_message_at = greatest(last_message_at, (v_live[2]).last_message_at)
            WHERE connection_id = p_connection AND id = (v_live[1]).id;
        END IF;
        UPDATE conversations SET chat_id = v_kept.id
        WHERE connection_id = p_connection AND chat_id = v_gone.id;
    END IF;
    PERFORM merge_messages(
        p_connection, v_merge, p_survivor, p_merged, v_kept.id, v_gone.id,
        CASE WHEN cardinality(v_live) = 2 THEN (v_live[1]).id END,
        CASE WHEN cardinality(v_live) = 2 THEN (v_live[2]).id END, p_now);
    IF v_gone.id IS NOT NULL THEN
        DELETE FROM chats WHERE connection_id = p_connection AND id = v_gone.id;
    END IF;
    UPDATE chats SET
        contact_id = p_survivor, address = contact_address(p_connection, p_survivor)
    WHERE connection_id = p_connection AND id = v_kept.id;
END
$$;

-- Moves the messages of a merge, and makes one of those that both contacts or chats had.
CREATE FUNCTION merge_messages(
    p_connection integer, p_merge bigint, p_survivor bigint, p_merged bigint, p_kept bigint,
    p_gone bigint, p_live bigint, p_closed bigint, p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_moving bigint[];
    v_keepers bigint[];
    v_losers bigint[];  -- by position
    v_emptied bigint[];
    v_instead bigint[];  -- by position: a message that stays for one that was in it
    v_complete bigint;
BEGIN
    -- By chat, so that each look-up has an index: the person's own chats, and all groups.
    v_moving := ARRAY(
        SELECT m.id FROM messages m
        WHERE m.connection_id = p_connection AND m.chat_id = p_gone
        UNION ALL
        SELECT m.id FROM chats k
        JOIN messages m ON m.connection_id = k.connection_id AND m.chat_id = k.id
            AND m.sender_id = p_merged
        WHERE k.connection_id = p_connection AND (k.kind = 'group' OR k.id = p_kept));
    SELECT array_agg(r.keeper ORDER BY r.id), array_agg(r.id ORDER BY r.id)
    INTO v_keepers, v_losers
    FROM (
        SELECT f.id, first_value(f.id) OVER same AS keeper
        FROM (
            SELECT m.id, m.state, m.lane, m.external_id,
                CASE m.chat_id WHEN p_gone THEN p_kept ELSE m.chat_id END AS chat_id,
                CASE m.sender_id WHEN p_merged THEN p_survivor ELSE m.sender_id END AS sender_id
            FROM unnest(v_moving) AS moving (id)
            JOIN messages m ON m.connection_id = p_connection AND m.id = moving.id
            UNION
            SELECT o.id, o.state, o.lane, o.external_id, o.chat_id, o.sender_id
            FROM unnest(v_moving) AS moving (id)
            JOIN messages m ON m.connection_id = p_connection AND m.id = moving.id
            JOIN messages o ON o.connection_id = p_connection
                AND o.chat_id = CASE m.chat_id WHEN p_gone THEN p_kept ELSE m.chat_id END
                AND o.sender_id
                    = CASE m.sender_id WHEN p_merged THEN p_survivor ELSE m.sender_id END
                AND o.external_id = m.external_id
        ) f
        WINDOW same AS (
            PARTITION BY f.chat_id, f.sender_id, f.external_id
            ORDER BY f.state = 'stored' DESC, f.lane = 'live' DESC, f.id)
    ) r
    WHERE r.id <> r.keeper;

    IF v_losers IS NOT NULL THEN
        -- The file stays with the message that stays, at the better of its two states.
        INSERT INTO contact_merge_rows (connection_id, merge_id, kind, before)
        SELECT p_connection, p_merge, 'media', to_jsonb(f) FROM media f
        WHERE f.connection_id = p_connection AND f.message_id = ANY (v_losers || v_keepers)
        ORDER BY f.message_id;
        DELETE FROM media f USING unnest(v_losers, v_keepers) AS pair (loser, keeper), media l
        WHERE f.connection_id = p_connection AND f.message_id = pair.keeper
          AND l.connection_id = p_connection AND l.message_id = pair.loser
          AND l.state = 'stored' AND f.state <> 'stored';
        UPDATE media f SET message_id = pair.keeper
        FROM (
            SELECT DISTINCT ON (pairs.keeper) pairs.keeper, pairs.loser
            FROM unnest(v_losers, v_keepers) AS pairs (loser, keeper)
            JOIN media l ON l.connection_id = p_connection AND l.message_id = pairs.loser
            WHERE NOT EXISTS (
                SELECT FROM media o
                WHERE o.connection_id = p_connection AND o.message_id = pairs.keeper)
            ORDER BY pairs.keeper, l.state = 'stored' DESC, pairs.loser
        ) pair
        WHERE f.connection_id = p_connection AND f.message_id = pair.loser;
        DELETE FROM media
        WHERE connection_id = p_connection AND message_id = ANY (v_losers);
        INSERT INTO contact_merge_rows (connection_id, merge_id, kind, before)
        SELECT p_connection, p_merge, 'duplicate', to_jsonb(m) FROM messages m
        WHERE connection_id = p_connection AND id = ANY (v_losers)
        ORDER BY id;
        SELECT array_agg(f.conversation_id ORDER BY f.conversation_id),
            array_agg(f.keeper ORDER BY f.conversation_id)
        INTO v_emptied, v_instead
        FROM (
            SELECT DISTINCT ON (m.conversation_id) m.conversation_id, pair.keeper
            FROM unnest(v_losers, v_keepers) AS pair (loser, keeper)
            JOIN messages m ON m.connection_id = p_connection AND m.id = pair.loser
            ORDER BY m.conversation_id, pair.loser
        ) f;
        SELECT count(*) FILTER (WHERE state = 'stored') INTO v_complete FROM messages
        WHERE connection_id = p_connection AND id = ANY (v_losers);
        UPDATE counters SET
            messages = messages - v_complete,
            undecryptable = undecryptable - (cardinality(v_losers) - v_complete),
            merged = merged + cardinality(v_losers),
            duplicates = duplicates + v_complete
        WHERE connection_id = p_connection;
        DELETE FROM messages WHERE connection_id = p_connection AND id = ANY (v_losers);
    END IF;
    INSERT INTO contact_merge_rows (connection_id, merge_id, kind, before)
    SELECT p_connection, p_merge, 'message', jsonb_build_object(
        'id', id, 'chat_id', chat_id, 'sender_id', sender_id,
        'conversation_id', conversation_id)
    FROM messages
    WHERE connection_id = p_connection AND id = ANY (v_moving)
    ORDER BY id;
    UPDATE messages SET
        chat_id = CASE chat_id WHEN p_gone THEN p_kept ELSE chat_id END,
        sender_id = CASE sender_id WHEN p_merged THEN p_survivor ELSE sender_id END,
        conversation_id = CASE conversation_id WHEN p_closed THEN p_live ELSE conversation_id END
    WHERE connection_id = p_connection AND id = ANY (v_moving);
    IF p_closed IS NOT NULL THEN
        -- Those of the kept chat, when its conversation is the one that was closed.
        WITH moved AS (
            UPDATE messages SET conversation_id = p_live
            WHERE connection_id = p_connection AND conversation_id = p_closed
            RETURNING id, chat_id, sender_id)
        INSERT INTO contact_merge_rows (connection_id, merge_id, kind, before)
        SELECT p_connection, p_merge, 'message', jsonb_build_object(
            'id', id, 'chat_id', chat_id, 'sender_id', sender_id, 'conversation_id', p_closed)
        FROM moved ORDER BY id;
        PERFORM recount_conversations(p_connection, ARRAY[p_live, p_closed]);
    END IF;
    IF v_losers IS NOT NULL THEN
        PERFORM recount_conversations(p_connection, v_emptied);
        -- Where all that a conversation had is in another one now, it is over.
        INSERT INTO contact_merge_rows (connection_id, merge_id, kind, before)
        SELECT p_connection, p_merge, 'conversation', to_jsonb(v) FROM conversations v
        WHERE v.connection_id = p_connection AND v.id = ANY (v_emptied) AND v.messages = 0
          AND v.merged_into IS NULL AND NOT EXISTS (
            SELECT FROM contact_merge_rows r
            WHERE r.connection_id = p_connection AND r.merge_id = p_merge
              AND r.kind = 'conversation' AND (r.before ->> 'id')::bigint = v.id)
        ORDER BY v.id;
        UPDATE conversations v SET
            status = 'closed', closed_at = coalesce(v.closed_at, p_now),
            merged_into = m.conversation_id
        FROM unnest(v_emptied, v_instead) AS pair (emptied, keeper)
        JOIN messages m ON m.connection_id = p_connection AND m.id = pair.keeper
        WHERE v.connection_id = p_connection AND v.id = pair.emptied AND v.messages = 0
          AND v.merged_into IS NULL;
    END IF;
    UPDATE contact_merges SET
        messages = (
            SELECT count(*) FROM contact_merge_rows
            WHERE connection_id = p_connection AND merge_id = p_merge AND kind = 'message'),
        duplicates = coalesce(cardinality(v_losers), 0)
    WHERE connection_id = p_connection AND id = p_merge;
END
$$;

-- Makes two contacts of one again; the merge as it is then, or nothing when there is none.
CREATE FUNCTION unmerge_contacts(p_merge bigint, p_now timestamptz)
RETURNS SETOF contact_merges LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_merge contact_merges;
    v_later bigint;
    v_touched bigint[];
    v_back bigint[];
    v_self boolean;
    v_blobs bytea[];
BEGIN
    SELECT * INTO v_merge FROM contact_merges WHERE id = p_merge;
    IF v_merge.id IS NULL THEN
        RETURN;
    END IF;
    PERFORM FROM counters WHERE connection_id = v_merge.connection_id FOR UPDATE;
    SELECT * INTO v_merge FROM contact_merges
    WHERE connection_id = v_merge.connection_id AND id = p_merge;
    IF v_merge.undone_at IS NOT NULL THEN
        RETURN NEXT v_merge;
        RETURN;
    END IF;
    SELECT max(id) INTO v_later FROM contact_merges
    WHERE connection_id = v_merge.connection_id AND id > p_merge AND undone_at IS NULL
      AND (survivor_id IN (v_merge.survivor_id, v_merge.merged_id)
        OR merged_id IN (v_merge.survivor_id, v_merge.merged_id));
    IF v_later IS NOT NULL THEN
        RAISE check_violation USING MESSAGE = 'merge ' || v_later
            || ' came later and took part of the same contact: undo that one first';
    END IF;

    UPDATE contacts SET merged_into = NULL
    WHERE connection_id = v_merge.connection_id AND id = v_merge.merged_id;
    UPDATE contact_addresses a SET contact_id = v_merge.merged_id
    FROM contact_merge_rows r
    WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge
      AND r.kind = 'address' AND a.connection_id = r.connection_id
      AND a.address = r.before ->> 'address';

    -- Chats: the one that stayed goes back to its contact before the other is made again.
    UPDATE chats k SET
        contact_id = (r.before ->> 'contact_id')::bigint, address = r.before ->> 'address'
    FROM contact_merge_rows r
    WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge AND r.kind = 'chat'
      AND k.connection_id = r.connection_id AND k.id = (r.before ->> 'id')::bigint;
    INSERT INTO chats OVERRIDING SYSTEM VALUE
    SELECT (jsonb_populate_record(NULL::chats, r.before)).* FROM contact_merge_rows r
    WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge AND r.kind = 'chat'
    ON CONFLICT (connection_id, id) DO NOTHING;

    -- Conversations go back closed or as they are now; then those that were live, where they can.
    v_back := ARRAY(
        SELECT (r.before ->> 'id')::bigint FROM contact_merge_rows r
        WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge
          AND r.kind = 'conversation');
    UPDATE conversations v SET
        chat_id = (r.before ->> 'chat_id')::bigint,
        opened_at = (r.before ->> 'opened_at')::timestamptz,
        closed_at = CASE
            WHEN v.merged_into IS NOT NULL AND r.before ->> 'status' = 'closed'
                THEN (r.before ->> 'closed_at')::timestamptz
            ELSE v.closed_at END
    FROM contact_merge_rows r
    WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge
      AND r.kind = 'conversation'
      AND v.connection_id = r.connection_id AND v.id = (r.before ->> 'id')::bigint;
    UPDATE conversations v SET
        merged_into = NULL,
        status = CASE WHEN again.live THEN again.status ELSE v.status END,
        closed_at = CASE WHEN again.live THEN NULL ELSE v.closed_at END
    FROM (
        SELECT w.id, r.before ->> 'status' AS status,
            r.before ->> 'status' <> 'closed' AND NOT EXISTS (
                SELECT FROM conversations o
                WHERE o.connection_id = w.connection_id AND o.chat_id = w.chat_id
                  AND o.status <> 'closed') AS live
        FROM contact_merge_rows r
        JOIN conversations w ON w.connection_id = r.connection_id
            AND w.id = (r.before ->> 'id')::bigint
        WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge
          AND r.kind = 'conversation' AND w.merged_into IS NOT NULL
          AND (r.before ->> 'merged_into') IS NULL
    ) again
    WHERE v.connection_id = v_merge.connection_id AND v.id = again.id;

    -- Messages: what moved, what became one, and what came since to what goes back.
    v_touched := v_back || ARRAY(
        SELECT DISTINCT m.conversation_id FROM contact_merge_rows r
        JOIN messages m ON m.connection_id = r.connection_id
            AND m.id = (r.before ->> 'id')::bigint
        WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge
          AND r.kind = 'message');
    UPDATE messages m SET
        chat_id = (r.before ->> 'chat_id')::bigint,
        sender_id = (r.before ->> 'sender_id')::bigint,
        conversation_id = (r.before ->> 'conversation_id')::bigint
    FROM contact_merge_rows r
    WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge
      AND r.kind = 'message'
      AND m.connection_id = r.connection_id AND m.id = (r.before ->> 'id')::bigint;
    INSERT INTO messages
    SELECT (jsonb_populate_record(NULL::messages, r.before)).* FROM contact_merge_rows r
    WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge
      AND r.kind = 'duplicate';
    SELECT is_self INTO v_self FROM contacts
    WHERE connection_id = v_merge.connection_id AND id = v_merge.survivor_id;
    UPDATE messages m SET chat_id = v.chat_id
    FROM conversations v
    WHERE v.connection_id = v_merge.connection_id AND v.id = ANY (v_back)
      AND m.connection_id = v.connection_id AND m.conversation_id = v.id
      AND m.chat_id <> v.chat_id;
    IF NOT v_self THEN
        UPDATE messages m SET sender_id = k.contact_id
        FROM chats k
        WHERE k.connection_id = v_merge.connection_id AND k.kind = 'direct'
          AND k.contact_id IN (v_merge.survivor_id, v_merge.merged_id)
          AND m.connection_id = k.connection_id AND m.chat_id = k.id
          AND m.sender_id IN (v_merge.survivor_id, v_merge.merged_id)
          AND m.sender_id <> k.contact_id;
    END IF;
    -- Files, but for messages that were erased meanwhile. A file that no message has any more was
    -- deleted, and is not stored again; the lock keeps those that one has until this commits.
    v_blobs := ARRAY(
        SELECT b.sha256
        FROM (
            SELECT DISTINCT (r.before ->> 'blob_sha256')::bytea AS sha256
            FROM contact_merge_rows r
            WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge
              AND r.kind = 'media' AND r.before ->> 'state' = 'stored'
        ) b
        CROSS JOIN LATERAL (
            SELECT FROM media o WHERE o.blob_sha256 = b.sha256 AND o.state = 'stored'
            LIMIT 1 FOR SHARE
        ) there);
    INSERT INTO media
    SELECT f.* FROM contact_merge_rows r
    JOIN messages m ON m.connection_id = r.connection_id
        AND m.id = (r.before ->> 'message_id')::bigint
    CROSS JOIN LATERAL jsonb_populate_record(NULL::media, CASE
        WHEN r.before ->> 'state' = 'stored'
            AND NOT (r.before ->> 'blob_sha256')::bytea = ANY (v_blobs)
        THEN r.before || '{"state": "removed"}' ELSE r.before END) f
    WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge AND r.kind = 'media'
      AND m.erased_at IS NULL
    ON CONFLICT DO NOTHING;
    PERFORM recount_conversations(v_merge.connection_id, v_touched || ARRAY(
        SELECT (r.before ->> 'conversation_id')::bigint FROM contact_merge_rows r
        WHERE r.connection_id = v_merge.connection_id AND r.merge_id = p_merge
          AND r.kind IN ('message', 'duplicate')));
    UPDATE counters c SET
        messages = c.messages + n.complete,
        undecryptable = c.undecryptable + n.total - n.complete,
        merged = c.merged - n.total,
        duplicates = c.duplicates - n.complete
    FROM (
        SELECT count(*) AS total,
            count(*) FILTER (WHERE before ->> 'state' = 'stored') AS complete
        FROM contact_merge_rows
        WHERE connection_id = v_merge.connection_id AND merge_id = p_merge
          AND kind = 'duplicate'
    ) n
    WHERE c.connection_id = v_merge.connection_id;
    UPDATE chats SET address = contact_address(connection_id, contact_id)
    WHERE connection_id = v_merge.connection_id AND kind = 'direct'
      AND contact_id IN (v_merge.survivor_id, v_merge.merged_id);
    RETURN QUERY
        UPDATE contact_merges SET undone_at = p_now
        WHERE connection_id = v_merge.connection_id AND id = p_merge
        RETURNING *;
END
$$;
