-- What messages look like now: put together on reading from the rows as they came, so that the
-- order in which those came makes no difference. For operators too: try inbox_messages.
--   * An edit counts when its author wrote the message; of several the newest by (sent_at, id).
--   * A message is deleted by its author, in groups by anybody who names the author (an admin);
--     the first one counts. Its content stays.
--   * Of everybody's reactions to a message, and votes in a poll, the newest counts; an empty one
--     takes it back.
--   * A side message means the message of its chat with the id it names; where it names an author
--     who is known, that author's.

DROP VIEW IF EXISTS search_versions, inbox_messages, message_details, message_versions, message_edits,
    message_deletions, reactions, poll_votes, side_messages, stored_messages, contact_details;
DROP FUNCTION IF EXISTS merge_addresses(integer, bigint);
DROP FUNCTION IF EXISTS chat_at(integer, text);
DROP FUNCTION IF EXISTS message_receipts(integer, bigint, text);
DROP FUNCTION IF EXISTS person_at(integer, text);
DROP FUNCTION IF EXISTS person(integer, bigint);
DROP FUNCTION IF EXISTS contact_addresses_of(integer, bigint);

-- All addresses of a contact, the one to show first.
CREATE FUNCTION contact_addresses_of(p_connection integer, p_contact bigint)
RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(
        a.address
        ORDER BY a.address LIKE '%@s.whatsapp.net' DESC, a.created_at DESC, a.address COLLATE "C"
    ), '{}')
    FROM contact_addresses a
    WHERE a.connection_id = p_connection AND a.contact_id = p_contact
$$;

-- A contact as the author or the receiver of something.
CREATE FUNCTION person(p_connection integer, p_contact bigint)
RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'contact', c.id, 'name', contact_name(c.connection_id, c.id),
        'addresses', contact_addresses_of(c.connection_id, c.id), 'is_self', c.is_self)
    FROM contacts c WHERE c.connection_id = p_connection AND c.id = p_contact
$$;

-- The same by address, whether there is a contact or not.
CREATE FUNCTION person_at(p_connection integer, p_address text)
RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT person(a.connection_id, a.contact_id) FROM contact_addresses a
         WHERE a.connection_id = p_connection AND a.address = p_address),
        jsonb_build_object('contact', NULL, 'name', NULL, 'addresses', ARRAY[p_address],
            'is_self', false))
$$;

-- The chat under any of its addresses.
CREATE FUNCTION chat_at(p_connection integer, p_address text)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT k.id FROM chats k
         WHERE k.connection_id = p_connection AND k.kind = 'group' AND k.address = p_address),
        (SELECT k.id FROM contact_addresses a
         JOIN chats k ON k.connection_id = a.connection_id AND k.kind = 'direct'
            AND k.contact_id = a.contact_id
         WHERE a.connection_id = p_connection AND a.address = p_address))
$$;

-- The addresses that a merge moved.
CREATE FUNCTION merge_addresses(p_connection integer, p_merge bigint)
RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(r.before ->> 'address' ORDER BY r.id), '{}')
    FROM contact_merge_rows r
    WHERE r.connection_id = p_connection AND r.merge_id = p_merge AND r.kind = 'address'
$$;

-- What a message of ours was followed by, per recipient.
CREATE FUNCTION message_receipts(p_connection integer, p_chat bigint, p_external_id text)
RETURNS TABLE (
    recipient text, delivered_at timestamptz, read_at timestamptz, played_at timestamptz
) LANGUAGE sql STABLE AS $$
    SELECT min(r.recipient COLLATE "C") COLLATE "default", min(r.delivered_at), min(r.read_at),
        min(r.played_at)
    FROM receipts r
    JOIN chats k ON k.connection_id = r.connection_id AND k.id = p_chat
    LEFT JOIN contact_addresses a ON a.connection_id = r.connection_id AND a.address = r.recipient
    LEFT JOIN contacts c ON c.connection_id = a.connection_id AND c.id = a.contact_id
    WHERE r.connection_id = p_connection AND r.external_id = p_external_id
      AND c.is_self IS NOT TRUE
      AND CASE k.kind WHEN 'group' THEN r.chat = k.address
            ELSE k.contact_id = (
                SELECT b.contact_id FROM contact_addresses b
                WHERE b.connection_id = r.connection_id AND b.address = r.chat) END
    GROUP BY coalesce(c.id::text, r.recipient)
$$;

-- Side messages with the messages they mean.
CREATE VIEW side_messages AS
SELECT s.connection_id, m.id AS message_id, s.id AS side_id, s.kind, s.sender_id, s.external_id,
    s.text, s.detail, s.sent_at, s.target_author, m.sender_id AS author_id,
    k.kind = 'group' AS in_group,
    -- Of one author, in the order of time.
    CASE WHEN jsonb_typeof(s.detail -> 'sent_at_ms') = 'number'
        THEN (s.detail ->> 'sent_at_ms')::numeric ELSE 0 END AS sent_at_ms,
    c.id IS NULL OR c.id = m.sender_id
        OR k.kind = 'direct' AND NOT c.is_self AND NOT m.from_me AS author_fits
FROM messages m
JOIN messages s ON s.connection_id = m.connection_id AND s.chat_id = m.chat_id
    AND s.target_id = m.external_id AND s.id <> m.id
JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id
LEFT JOIN contact_addresses a ON a.connection_id = s.connection_id AND a.address = s.target_author
LEFT JOIN contacts c ON c.connection_id = a.connection_id AND c.id = a.contact_id;

CREATE VIEW message_edits AS
SELECT connection_id, message_id, side_id, external_id, text, sent_at AS at, sent_at_ms
FROM side_messages
WHERE kind = 'edit' AND sender_id = author_id;

-- Every text that a message had; the original is number 0, the highest number the present one.
CREATE VIEW message_versions AS
SELECT connection_id, message_id, external_id, text, at,
    row_number() OVER (
        PARTITION BY connection_id, message_id
        ORDER BY at, sent_at_ms, external_id COLLATE "C") AS version
FROM message_edits
UNION ALL
SELECT connection_id, id, external_id, text, sent_at, 0 FROM messages
WHERE state = 'stored' AND lane <> 'side';

CREATE VIEW message_deletions AS
SELECT DISTINCT ON (connection_id, message_id)
    connection_id, message_id, sender_id AS deleted_by, sent_at AS deleted_at
FROM side_messages
WHERE kind = 'revoke'
  AND (sender_id = author_id OR in_group AND target_author IS NOT NULL AND author_fits)
ORDER BY connection_id, message_id, sent_at, sent_at_ms, external_id COLLATE "C";

CREATE VIEW reactions AS
SELECT connection_id, message_id, sender_id, emoji, at, sent_at_ms, external_id
FROM (
    SELECT DISTINCT ON (connection_id, message_id, sender_id)
        connection_id, message_id, sender_id, text AS emoji, sent_at AS at, sent_at_ms,
        external_id
    FROM side_messages
    WHERE kind = 'reaction' AND author_fits
    ORDER BY connection_id, message_id, sender_id, sent_at DESC, sent_at_ms DESC,
        external_id COLLATE "C" DESC
) newest
WHERE emoji <> '';

CREATE VIEW poll_votes AS
SELECT connection_id, message_id, voter_id, options, at, sent_at_ms, external_id
FROM (
    SELECT DISTINCT ON (connection_id, message_id, sender_id)
        connection_id, message_id, sender_id AS voter_id, sent_at AS at, sent_at_ms, external_id,
        ARRAY(
            SELECT option #>> '{}'
            FROM jsonb_array_elements(detail -> 'options') WITH ORDINALITY AS o (option, ord)
            WHERE jsonb_typeof(option) = 'string' ORDER BY ord
        ) AS options
    FROM side_messages
    WHERE kind = 'poll_vote' AND author_fits AND jsonb_typeof(detail -> 'options') = 'array'
    ORDER BY connection_id, message_id, sender_id, sent_at DESC, sent_at_ms DESC,
        external_id COLLATE "C" DESC
) newest
WHERE cardinality(options) > 0;

-- Messages as the workers need them.
CREATE VIEW stored_messages AS
SELECT m.connection_id, m.id, c.name AS connection, m.conversation_id AS conversation,
    k.address AS chat,
    CASE WHEN k.kind = 'direct' THEN (
        SELECT o.address
        FROM unnest(contact_addresses_of(k.connection_id, k.contact_id)) WITH ORDINALITY
            AS o (address, ord)
        WHERE o.address <> k.address ORDER BY o.ord LIMIT 1
    ) END AS chat_alt,
    k.kind = 'direct' AS direct, contact_addresses_of(m.connection_id, m.sender_id) AS senders,
    m.from_me, m.external_id, m.kind, m.state, m.lane, m.text, m.raw, m.target_id,
    m.target_author, m.quoted_id, m.quoted_author, m.mentions, m.flags, m.detail, m.sent_at
FROM messages m
JOIN connections c ON c.id = m.connection_id
JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id;

-- People, each once.
CREATE VIEW contact_details AS
SELECT p.connection_id, p.id, c.name AS connection,
    contact_name(p.connection_id, p.id) AS name,
    coalesce((
        SELECT jsonb_object_agg(n.source, n.name) FROM (
            SELECT DISTINCT ON (s.source) s.source, s.name
            FROM contact_addresses a
            JOIN contact_names s ON s.connection_id = a.connection_id AND s.address = a.address
            WHERE a.connection_id = p.connection_id AND a.contact_id = p.id
            ORDER BY s.source, s.at DESC, s.name COLLATE "C" DESC
        ) n WHERE n.name <> ''), '{}') AS names,
    contact_addresses_of(p.connection_id, p.id) AS addresses, p.is_self,
    (SELECT k.id FROM chats k
     WHERE k.connection_id = p.connection_id AND k.kind = 'direct'
       AND k.contact_id = p.id) AS chat,
    p.created_at
FROM contacts p
JOIN connections c ON c.id = p.connection_id
WHERE p.merged_into IS NULL;

-- Everything there is to show of a message.
CREATE VIEW message_details AS
SELECT m.connection_id, m.id, c.name AS connection, m.conversation_id AS conversation,
    k.address AS chat, k.kind = 'direct' AS direct, person(m.connection_id, m.sender_id) AS sender,
    m.from_me, m.external_id, m.kind, m.state, m.lane, m.arrival,
    CASE WHEN e.message_id IS NULL THEN m.text ELSE e.text END AS text, m.text AS original_text,
    CASE WHEN e.message_id IS NOT NULL THEN (
        SELECT jsonb_agg(
            jsonb_build_object('text', v.text, 'at', v.at, 'external_id', v.external_id)
            ORDER BY v.at, v.sent_at_ms, v.external_id COLLATE "C")
        FROM message_edits v
        WHERE v.connection_id = m.connection_id AND v.message_id = m.id
    ) END AS edits,
    (SELECT jsonb_build_object('by', person(d.connection_id, d.deleted_by), 'at', d.deleted_at)
     FROM message_deletions d
     WHERE d.connection_id = m.connection_id AND d.message_id = m.id) AS deleted,
    (SELECT jsonb_agg(
        jsonb_build_object('sender', person(r.connection_id, r.sender_id), 'emoji', r.emoji,
            'at', r.at)
        ORDER BY r.at, r.sent_at_ms, r.external_id COLLATE "C")
     FROM reactions r
     WHERE r.connection_id = m.connection_id AND r.message_id = m.id) AS reactions,
    (SELECT jsonb_agg(
        jsonb_build_object('voter', person(p.connection_id, p.voter_id), 'options', p.options,
            'at', p.at)
        ORDER BY p.at, p.sent_at_ms, p.external_id COLLATE "C")
     FROM poll_votes p
     WHERE p.connection_id = m.connection_id AND p.message_id = m.id) AS votes,
    CASE WHEN m.quoted_id IS NOT NULL THEN coalesce((
        SELECT jsonb_build_object('external_id', m.quoted_id, 'id', q.id,
            'author', person(q.connection_id, q.sender_id), 'kind', q.kind,
            'text', left(CASE WHEN z.message_id IS NULL THEN q.text ELSE z.text END, 300))
        FROM messages q
        LEFT JOIN contact_addresses a ON a.connection_id = m.connection_id
            AND a.address = m.quoted_author
        LEFT JOIN LATERAL (
            SELECT v.message_id, v.text FROM message_edits v
            WHERE v.connection_id = q.connection_id AND v.message_id = q.id
            ORDER BY v.at DESC, v.sent_at_ms DESC, v.external_id COLLATE "C" DESC LIMIT 1
        ) z ON true
        WHERE q.connection_id = m.connection_id AND q.chat_id = m.chat_id
          AND q.external_id = m.quoted_id
        ORDER BY q.sender_id = a.contact_id DESC NULLS LAST, q.id LIMIT 1
    ), jsonb_build_object('external_id', m.quoted_id, 'id', NULL, 'kind', NULL, 'text', NULL,
        'author', CASE WHEN m.quoted_author IS NOT NULL
            THEN person_at(m.connection_id, m.quoted_author) END)) END AS quoted,
    CASE WHEN m.mentions IS NOT NULL THEN (
        SELECT jsonb_agg(person_at(m.connection_id, a.address) ORDER BY a.ord)
        FROM unnest(m.mentions) WITH ORDINALITY AS a (address, ord)
    ) END AS mentions,
    m.flags, m.detail,
    (SELECT jsonb_build_object('kind', f.kind, 'state', f.state, 'mimetype', f.mimetype,
        'size', f.size, 'name', f.name, 'blob_sha256', encode(f.blob_sha256, 'hex'),
        'error', f.error)
     FROM media f WHERE f.connection_id = m.connection_id AND f.message_id = m.id) AS media,
    CASE WHEN m.from_me THEN (
        SELECT jsonb_agg(
            jsonb_build_object('recipient', person_at(m.connection_id, r.recipient),
                'delivered_at', r.delivered_at, 'read_at', r.read_at, 'played_at', r.played_at)
            ORDER BY r.recipient COLLATE "C")
        FROM message_receipts(m.connection_id, m.chat_id, m.external_id) r
    ) END AS receipts,
    m.target_id, m.reason, m.verdict, m.retries, m.sent_at, m.received_at, m.erased AS removed
FROM messages m
JOIN connections c ON c.id = m.connection_id
JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id
LEFT JOIN LATERAL (
    SELECT v.message_id, v.text FROM message_edits v
    WHERE v.connection_id = m.connection_id AND v.message_id = m.id
    ORDER BY v.at DESC, v.sent_at_ms DESC, v.external_id COLLATE "C" DESC LIMIT 1
) e ON true;

-- For people at a prompt: the messages as they read now.
CREATE VIEW inbox_messages AS
SELECT c.name AS connection, m.conversation_id, m.id, k.address AS chat,
    coalesce(contact_name(m.connection_id, m.sender_id),
        contact_address(m.connection_id, m.sender_id)) AS sender,
    m.from_me, m.kind,
    CASE WHEN e.message_id IS NULL THEN m.text ELSE e.text END AS text,
    e.message_id IS NOT NULL AS edited, d.deleted_at,
    coalesce(contact_name(d.connection_id, d.deleted_by),
        contact_address(d.connection_id, d.deleted_by)) AS deleted_by,
    m.sent_at, m.received_at, m.erased AS removed
FROM messages m
JOIN connections c ON c.id = m.connection_id
JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id
LEFT JOIN LATERAL (
    SELECT v.message_id, v.text FROM message_edits v
    WHERE v.connection_id = m.connection_id AND v.message_id = m.id
    ORDER BY v.at DESC, v.sent_at_ms DESC, v.external_id COLLATE "C" DESC LIMIT 1
) e ON true
LEFT JOIN LATERAL (
    SELECT v.connection_id, v.deleted_by, v.deleted_at FROM message_deletions v
    WHERE v.connection_id = m.connection_id AND v.message_id = m.id
    OFFSET 0
) d ON true
WHERE m.lane <> 'side';
