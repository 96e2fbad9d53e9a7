-- The statements of the archive: pages of rows, each page from behind a key; and the way back.
--
-- Conversations are told by the moment at which they were opened, and by their number among those
-- of the chat that were opened at that moment. Rows keep the order of their making (their ids);
-- those without ids the order in which the server sorts their keys.

-- name: archive_bounds
-- The newest rows of now: what comes later is not part of the archive.
SELECT coalesce(max(c.contacts), 0) AS contacts, coalesce(max(c.chats), 0) AS chats,
    coalesce(max(c.conversations), 0) AS conversations, coalesce(max(c.messages), 0) AS messages
FROM (
    SELECT
        (SELECT max(id) FROM contacts WHERE connection_id = n.id) AS contacts,
        (SELECT max(id) FROM chats WHERE connection_id = n.id) AS chats,
        (SELECT max(id) FROM conversations WHERE connection_id = n.id) AS conversations,
        (SELECT max(id) FROM messages WHERE connection_id = n.id) AS messages
    FROM connections n
) c;

-- name: archive_connections
-- All connections with their rules.
SELECT id, name AS connection, created_at,
    (extract(epoch FROM reopen_window) * 1000000)::bigint AS reopen_window,
    reopen_from, team_reopens
FROM connections ORDER BY name COLLATE "C";

-- name: archive_contact
-- A contact by its address, with its own chat.
SELECT a.contact_id, k.id AS chat_id
FROM contact_addresses a
LEFT JOIN chats k ON k.connection_id = a.connection_id AND k.kind = 'direct'
    AND k.contact_id = a.contact_id
WHERE a.connection_id = $1 AND a.address = $2;

-- name: archive_conversation
-- A conversation by its number.
SELECT connection_id, chat_id FROM conversations WHERE id = $1;

-- name: archive_relevant
-- What the messages of an extract belong to.
WITH found AS MATERIALIZED (
    SELECT DISTINCT m.conversation_id, m.chat_id, m.sender_id
    FROM messages m
    WHERE m.connection_id = $1 AND m.id <= $2
        AND ($3::bigint IS NULL OR m.sender_id = $3 OR m.chat_id = $4)
        AND ($5::bigint IS NULL OR m.conversation_id = $5)
        AND ($6::timestamptz IS NULL OR m.sent_at >= $6)
        AND ($7::timestamptz IS NULL OR m.sent_at < $7)
), chosen AS (
    SELECT conversation_id FROM found UNION SELECT $5 WHERE $5 IS NOT NULL
), rooms AS (
    SELECT chat_id FROM found UNION SELECT $4 WHERE $4 IS NOT NULL
    UNION SELECT chat_id FROM conversations WHERE connection_id = $1 AND id = $5
)
SELECT ARRAY(SELECT conversation_id FROM chosen) AS conversations,
    ARRAY(SELECT chat_id FROM rooms) AS chats,
    ARRAY(
        SELECT sender_id FROM found UNION SELECT $3 WHERE $3 IS NOT NULL
        UNION SELECT id FROM contacts WHERE connection_id = $1 AND is_self
        UNION SELECT k.contact_id FROM chats k
        WHERE k.connection_id = $1 AND k.id IN (SELECT chat_id FROM rooms)
            AND k.contact_id IS NOT NULL
    ) AS contacts;

-- name: archive_labels
-- Labels by their ids.
SELECT id, name, color, deleted, at FROM labels
WHERE connection_id = $1 AND ($2::text IS NULL OR id > $2)
ORDER BY id LIMIT $3;

-- name: archive_contacts
-- Contacts in the order of their making, those that were merged away left out.
SELECT c.id, c.is_self, c.created_at, a.addresses, a.address_times,
    n.addresses AS name_addresses, n.sources, n.names, n.times AS name_times
FROM (
    SELECT c.* FROM contacts c
    WHERE c.connection_id = $1 AND c.id > $2 AND c.id <= $3 AND c.merged_into IS NULL
        AND ($4::bigint[] IS NULL OR c.id = ANY ($4))
        AND (c.is_self OR EXISTS (
            SELECT FROM contact_addresses a
            WHERE a.connection_id = c.connection_id AND a.contact_id = c.id))
    ORDER BY c.id LIMIT $5
) c
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(a.address ORDER BY a.address COLLATE "C"), '{}') AS addresses,
        coalesce(array_agg(a.created_at ORDER BY a.address COLLATE "C"), '{}') AS address_times
    FROM contact_addresses a
    WHERE a.connection_id = c.connection_id AND a.contact_id = c.id
) a
CROSS JOIN LATERAL (
    SELECT array_agg(n.address ORDER BY n.address COLLATE "C", n.source COLLATE "C") AS addresses,
        array_agg(n.source ORDER BY n.address COLLATE "C", n.source COLLATE "C") AS sources,
        array_agg(n.name ORDER BY n.address COLLATE "C", n.source COLLATE "C") AS names,
        array_agg(n.at ORDER BY n.address COLLATE "C", n.source COLLATE "C") AS times
    FROM contact_addresses a
    JOIN contact_names n ON n.connection_id = a.connection_id AND n.address = a.address
    WHERE a.connection_id = c.connection_id AND a.contact_id = c.id
) n
ORDER BY c.id;

-- name: archive_groups
-- Groups with their members.
SELECT g.address, g.subject, g.subject_at, g.description, g.description_at, g.announce,
    g.announce_at, g.locked, g.locked_at, g.expiration, g.expiration_at, g.owner, g.created_at,
    g.members_at, m.addresses, m.presents, m.roles, m.times
FROM (
    SELECT g.* FROM groups g
    WHERE g.connection_id = $1 AND ($2::text IS NULL OR g.address > $2)
        AND ($3::bigint[] IS NULL OR EXISTS (
            SELECT FROM chats k
            WHERE k.connection_id = g.connection_id AND k.kind = 'group'
                AND k.address = g.address AND k.id = ANY ($3)))
    ORDER BY g.address LIMIT $4
) g
CROSS JOIN LATERAL (
    SELECT array_agg(m.address ORDER BY m.address COLLATE "C") AS addresses,
        array_agg(m.present ORDER BY m.address COLLATE "C") AS presents,
        array_agg(m.role ORDER BY m.address COLLATE "C") AS roles,
        array_agg(m.at ORDER BY m.address COLLATE "C") AS times
    FROM group_members m
    WHERE m.connection_id = g.connection_id AND m.group_address = g.address
) m
ORDER BY g.address;

-- name: archive_chats
-- Chats in the order of their making, but for those with people who were forgotten.
SELECT id, kind, address, created_at FROM chats
WHERE connection_id = $1 AND id > $2 AND id <= $3 AND ($4::bigint[] IS NULL OR id = ANY ($4))
    AND (kind <> 'direct' OR (SELECT NOT EXISTS (SELECT FROM erasures))
        OR NOT is_nobody(connection_id, contact_id))
ORDER BY id LIMIT $5;

-- name: archive_conversations
-- Conversations by chat and beginning.
SELECT v.chat_id, v.opened_at, v.id, k.kind AS chat_kind, k.address AS chat,
    conversation_nth(v.connection_id, v.chat_id, v.opened_at, v.id) AS nth,
    v.status, v.last_message_at, v.closed_at, v.reopened, v.reopened_at,
    v.messages - CASE WHEN (SELECT EXISTS (SELECT FROM erasures)) AND k.kind = 'group' THEN (
        SELECT count(*) FROM messages m
        WHERE m.connection_id = v.connection_id AND m.conversation_id = v.id
          AND is_nobody(m.connection_id, m.sender_id)) ELSE 0 END AS messages
FROM (
    SELECT v.* FROM conversations v
    WHERE v.connection_id = $1 AND v.id <= $2 AND ($3::bigint[] IS NULL OR v.id = ANY ($3))
        AND ((SELECT NOT EXISTS (SELECT FROM erasures))
            OR NOT of_nobody(v.connection_id, v.chat_id, NULL))
        AND ($4::bigint IS NULL OR (v.chat_id, v.opened_at, v.id) > ($4, $5::timestamptz, $6::bigint))
        AND ($4 IS NULL OR v.chat_id >= $4)
    ORDER BY v.chat_id, v.opened_at, v.id LIMIT $7
) v
JOIN chats k ON k.connection_id = v.connection_id AND k.id = v.chat_id
ORDER BY v.chat_id, v.opened_at, v.id;

-- name: archive_conversations_merged
-- Conversations whose messages are in another one now.
SELECT v.chat_id, v.opened_at, v.id, k.kind AS chat_kind, k.address AS chat,
    conversation_nth(v.connection_id, v.chat_id, v.opened_at, v.id) AS nth,
    o.opened_at AS into_opened_at,
    conversation_nth(o.connection_id, o.chat_id, o.opened_at, o.id) AS into_nth
FROM (
    SELECT v.* FROM conversations v
    WHERE v.connection_id = $1 AND v.id <= $2 AND ($3::bigint[] IS NULL OR v.id = ANY ($3))
        AND ($4::bigint IS NULL OR (v.chat_id, v.opened_at, v.id) > ($4, $5::timestamptz, $6::bigint))
        AND ($4 IS NULL OR v.chat_id >= $4)
        AND v.merged_into IS NOT NULL AND v.merged_into <= $2
        AND ((SELECT NOT EXISTS (SELECT FROM erasures))
            OR NOT of_nobody(v.connection_id, v.chat_id, NULL))
    ORDER BY v.chat_id, v.opened_at, v.id LIMIT $7
) v
JOIN chats k ON k.connection_id = v.connection_id AND k.id = v.chat_id
JOIN conversations o ON o.connection_id = v.connection_id AND o.id = v.merged_into
    AND o.chat_id = v.chat_id
ORDER BY v.chat_id, v.opened_at, v.id;

-- name: archive_messages
-- Messages in the order of their arrival, which within a connection is that of their ids; no more
-- than so many, and no more when they have so many bytes.
SELECT a.*
FROM (
    SELECT m.id, sum(m.size) OVER (ORDER BY m.id) - m.size AS before
    FROM (
        SELECT m.id, octet_length(m.raw) + coalesce(octet_length(m.text), 0) AS size
        FROM messages m
        WHERE m.connection_id = $1 AND m.id > $8 AND m.id <= $2
            AND ($3::bigint IS NULL OR m.sender_id = $3 OR m.chat_id = $4)
            AND ($5::bigint IS NULL OR m.conversation_id = $5)
            AND ($6::timestamptz IS NULL OR m.sent_at >= $6)
            AND ($7::timestamptz IS NULL OR m.sent_at < $7)
            AND ((SELECT NOT EXISTS (SELECT FROM erasures))
                OR NOT of_nobody(m.connection_id, m.chat_id, m.sender_id))
        ORDER BY m.id LIMIT $10
    ) m
) p
JOIN archived_messages a ON a.connection_id = $1 AND a.id = p.id
WHERE p.before < $9
ORDER BY p.id;

-- name: archive_receipts
-- Receipts; of an extract those for its messages.
SELECT r.external_id, r.chat, r.recipient, r.delivered_at, r.read_at, r.played_at
FROM receipts r
WHERE r.connection_id = $1
    AND ($8::text IS NULL OR (r.external_id, r.chat, r.recipient) > ($8, $9::text, $10::text))
    AND (NOT $12::boolean OR EXISTS (
        SELECT FROM messages m
        WHERE m.connection_id = $1 AND m.chat_id = chat_at($1, r.chat)
            AND m.sender_id = (SELECT s.id FROM contacts s WHERE s.connection_id = $1 AND s.is_self)
            AND m.external_id = r.external_id AND m.id <= $2
            AND ($3::bigint IS NULL OR m.sender_id = $3 OR m.chat_id = $4)
            AND ($5::bigint IS NULL OR m.conversation_id = $5)
            AND ($6::timestamptz IS NULL OR m.sent_at >= $6)
            AND ($7::timestamptz IS NULL OR m.sent_at < $7)))
ORDER BY r.external_id, r.chat, r.recipient LIMIT $11;

-- name: archive_label_links
-- Which chats and messages have a label, or had one.
SELECT chat, label, message_id, labelled, at FROM label_links
WHERE connection_id = $1
    AND ($2::text IS NULL OR (chat, label, message_id) > ($2, $3::text, $4::text))
    AND ($5::bigint[] IS NULL OR chat_at($1, chat) = ANY ($5))
ORDER BY chat, label, message_id LIMIT $6;

-- name: archive_chat_settings
-- Settings of chats.
SELECT address, setting, value, at FROM chat_settings
WHERE connection_id = $1 AND ($2::text IS NULL OR (address, setting) > ($2, $3::text))
    AND ($4::bigint[] IS NULL OR chat_at($1, address) = ANY ($4))
ORDER BY address, setting LIMIT $5;

-- name: import_batch
-- Put a batch of records back.
SELECT import_batch($1, $2::text::jsonb, $3::text[], $4::bytea[], $5);

-- name: import_tombstones
-- The tombstones of all connections, and what they will be known by.
SELECT s.state, t.connection, t.hash, t.at, t.returned
FROM (SELECT tombstones_state() AS state) s
LEFT JOIN (
    SELECT c.name AS connection, t.hash, extract(epoch FROM t.at)::double precision AS at,
        t.returned_at IS NOT NULL AS returned
    FROM tombstones t
    JOIN connections c ON c.id = t.connection_id
) t ON true;

-- name: import_connections
-- The names of those that are here.
SELECT name FROM connections;

-- name: import_noted
-- Write down what an import left out, who has come back, and more addresses of who has not.
SELECT note_forgotten($1::text::jsonb, now());

-- name: import_files_lost
-- Files that were brought for messages which are not stored.
INSERT INTO erased_blobs (sha256, erased_at)
SELECT DISTINCT u.sha256, now() FROM unnest($1::bytea[]) AS u (sha256)
ON CONFLICT DO NOTHING;

-- name: finish_import
-- Take away what an import turned out not to need.
SELECT finish_import($1);
