-- The statements of PostgresInbox, loaded by name.

-- name: conversation_messages
-- The newest messages of a conversation, before the one with id $2 if there is one; oldest first.
WITH page AS (
    SELECT m.connection_id, m.id
    FROM connections c
    JOIN conversations v ON v.connection_id = c.id AND v.id = $1
    JOIN messages m ON m.connection_id = v.connection_id AND m.conversation_id = v.id
    LEFT JOIN messages b ON b.connection_id = v.connection_id AND b.id = $2
    WHERE m.lane <> 'side'
      AND ($2::bigint IS NULL OR (m.sent_at, m.arrival, m.id) < (b.sent_at, b.arrival, b.id))
    ORDER BY m.sent_at DESC, m.arrival DESC, m.id DESC
    LIMIT $3
)
SELECT d.* FROM page
JOIN message_details d ON d.connection_id = page.connection_id AND d.id = page.id
ORDER BY d.sent_at, d.arrival, d.id;

-- name: message
-- One message with everything.
SELECT d.* FROM connections c
JOIN message_details d ON d.connection_id = c.id AND d.id = $1;

-- name: find_message
-- The message with an id in a chat; that of an author first.
SELECT s.* FROM stored_messages s
WHERE (s.connection_id, s.id) = (
    SELECT m.connection_id, m.id
    FROM connections c
    CROSS JOIN LATERAL (SELECT chat_at(c.id, $2) AS id OFFSET 0) k
    JOIN messages m ON m.connection_id = c.id AND m.chat_id = k.id AND m.external_id = $3
    WHERE c.name = $1
    ORDER BY m.sender_id = (
        SELECT a.contact_id FROM contact_addresses a
        WHERE a.connection_id = c.id AND a.address = $4) DESC NULLS LAST, m.id
    LIMIT 1);

-- name: find_message_anywhere
-- The message with an id, whatever its chat; that of an author first.
SELECT s.* FROM stored_messages s
WHERE (s.connection_id, s.id) = (
    SELECT m.connection_id, m.id
    FROM connections c
    JOIN messages m ON m.connection_id = c.id AND m.external_id = $2
    WHERE c.name = $1
    ORDER BY m.sender_id = (
        SELECT a.contact_id FROM contact_addresses a
        WHERE a.connection_id = c.id AND a.address = $3) DESC NULLS LAST, m.id
    LIMIT 1);

-- name: oldest_message
-- The first message of a chat that has an id of WhatsApp's.
SELECT s.* FROM stored_messages s
WHERE (s.connection_id, s.id) = (
    SELECT m.connection_id, m.id
    FROM connections c
    CROSS JOIN LATERAL (SELECT chat_at(c.id, $2) AS id OFFSET 0) k
    JOIN conversations v ON v.connection_id = c.id AND v.chat_id = k.id
    JOIN messages m ON m.connection_id = v.connection_id AND m.conversation_id = v.id
    WHERE c.name = $1 AND m.lane <> 'side'
      AND NOT starts_with(m.external_id, 'generated-')
      AND NOT starts_with(m.external_id, 'hashed-')
    ORDER BY m.sent_at, m.arrival, m.id
    LIMIT 1);

-- name: pending_addons
-- Encrypted side messages above an id, each with the id of the message it means.
SELECT s.*, (
    SELECT t.message_id FROM side_messages t
    WHERE t.connection_id = s.connection_id AND t.side_id = s.id AND t.author_fits
    ORDER BY t.message_id LIMIT 1
) AS target_message
FROM stored_messages s
WHERE s.id = ANY (ARRAY(
    SELECT m.id FROM messages m
    WHERE m.id > $1 AND (
        m.kind IN ('encrypted_reaction', 'encrypted_comment', 'secret_encrypted')
        OR m.kind = 'poll_vote' AND (m.detail -> 'options') IS NULL
        OR m.kind = 'event_response' AND (m.detail -> 'response') IS NULL)
    ORDER BY m.id LIMIT $2))
  AND s.connection_id = ANY (ARRAY(SELECT c.id FROM connections c))
ORDER BY s.id;

-- name: stored_messages
-- Messages by id.
SELECT s.* FROM stored_messages s
WHERE s.id = ANY ($1::bigint[])
  AND s.connection_id = ANY (ARRAY(SELECT c.id FROM connections c));

-- name: waiting_placeholders
-- Undecryptable messages without a verdict.
SELECT s.*, m.retries, m.reason, m.received_at
FROM messages m
JOIN stored_messages s ON s.connection_id = m.connection_id AND s.id = m.id
WHERE m.state = 'undecryptable' AND m.verdict IS NULL
  AND m.connection_id = ANY (ARRAY(
    SELECT c.id FROM connections c WHERE $1::text IS NULL OR c.name = $1))
  AND m.id > $2
ORDER BY m.id LIMIT $3;

-- name: unread_unknown
-- Messages of kind unknown: what unread_kinds asks most.
SELECT s.* FROM messages m
JOIN stored_messages s ON s.connection_id = m.connection_id AND s.id = m.id
WHERE m.kind = 'unknown' AND m.erased_at IS NULL AND m.id > $1 AND ($2::text IS NULL OR s.connection = $2)
ORDER BY m.id LIMIT $3;

-- name: unread_kinds
-- Messages of some kinds, or of all.
SELECT s.* FROM messages m
JOIN stored_messages s ON s.connection_id = m.connection_id AND s.id = m.id
WHERE m.id > $1 AND m.state = 'stored' AND m.erased_at IS NULL AND ($4::text[] IS NULL OR m.kind = ANY ($4))
  AND m.connection_id = ANY (ARRAY(
    SELECT c.id FROM connections c WHERE $2::text IS NULL OR c.name = $2))
ORDER BY m.id LIMIT $3;

-- name: rewrite
-- Read a stored message anew, in place, unless it is of another kind by now.
WITH changed AS (
    UPDATE messages m SET kind = $4, text = $5, target_id = $6, target_author = $7,
        quoted_id = $8, quoted_author = $9, mentions = $10::text[], flags = $11::text[],
        detail = $12::text::jsonb, lane = CASE WHEN $13 THEN 'side' ELSE m.lane END
    FROM connections c
    WHERE c.name = $1 AND m.connection_id = c.id AND m.id = $2 AND m.kind = $3
      AND m.state = 'stored' AND m.erased_at IS NULL
    RETURNING m.connection_id, m.id, m.lane
), filed AS (
    INSERT INTO media (connection_id, message_id, kind, mimetype, size, name, sha256, live)
    SELECT r.connection_id, r.id, f.kind, f.mimetype, f.size, f.name,
        decode(f.sha256, 'hex'), r.lane <> 'history'
    FROM changed r
    CROSS JOIN jsonb_to_record($14::text::jsonb)
        AS f (kind text, mimetype text, size bigint, name text, sha256 text)
    WHERE f.kind IS NOT NULL
    ON CONFLICT DO NOTHING
), reworded AS (
    INSERT INTO search_again (connection_id, message_id)
    SELECT r.connection_id, r.id FROM changed r ON CONFLICT DO NOTHING
)
SELECT id FROM changed;

-- name: contacts
-- People by id, all or those with a part of a name or an address.
SELECT d.* FROM contact_details d
WHERE d.id > $3 AND NOT d.is_self AND d.addresses <> '{}' AND ($1::text IS NULL OR d.connection = $1)
  AND ($2::text IS NULL
    OR EXISTS (
        SELECT FROM unnest(d.addresses) AS a (address)
        WHERE strpos(lower(a.address), lower($2)) > 0)
    OR EXISTS (
        SELECT FROM jsonb_each_text(d.names) AS n (source, name)
        WHERE strpos(lower(n.name), lower($2)) > 0))
ORDER BY d.id LIMIT $4;

-- name: contact
-- The person behind an address.
SELECT d.* FROM connections c
JOIN contact_addresses a ON a.connection_id = c.id AND a.address = $2
JOIN contact_details d ON d.connection_id = a.connection_id AND d.id = a.contact_id
WHERE c.name = $1;

-- name: contact_by_id
-- One person.
SELECT d.* FROM connections c
JOIN contact_details d ON d.connection_id = c.id AND d.id = $1;

-- name: merges
-- Merges of contacts, the newest first.
SELECT m.id, c.name AS connection, m.survivor_id AS survivor, m.merged_id AS merged,
    merge_addresses(m.connection_id, m.id) AS addresses, m.messages, m.duplicates, m.source,
    m.merged_at, m.undone_at
FROM contact_merges m
JOIN connections c ON c.id = m.connection_id
WHERE ($1::text IS NULL OR c.name = $1) AND ($2::bigint IS NULL OR m.id < $2)
ORDER BY m.id DESC LIMIT $3;

-- name: unmerge
-- Make two contacts of one again.
SELECT m.id, c.name AS connection, m.survivor_id AS survivor, m.merged_id AS merged,
    merge_addresses(m.connection_id, m.id) AS addresses, m.messages, m.duplicates, m.source,
    m.merged_at, m.undone_at
FROM unmerge_contacts($1, $2) m
JOIN connections c ON c.id = m.connection_id;

-- name: groups
-- Groups without their members.
SELECT c.name AS connection, g.address, g.subject, g.description, g.announce, g.locked,
    g.expiration, g.created_at,
    CASE WHEN g.owner IS NOT NULL THEN person_at(g.connection_id, g.owner) END AS owner,
    NULL::jsonb AS members
FROM connections c
JOIN groups g ON g.connection_id = c.id
WHERE c.name = $1 AND g.address COLLATE "C" > $2
ORDER BY g.address COLLATE "C" LIMIT $3;

-- name: group
-- A group with its members; of a person's addresses the one heard of last tells.
SELECT c.name AS connection, g.address, g.subject, g.description, g.announce, g.locked,
    g.expiration, g.created_at,
    CASE WHEN g.owner IS NOT NULL THEN person_at(g.connection_id, g.owner) END AS owner,
    (SELECT jsonb_agg(
        jsonb_build_object('person', person_at(g.connection_id, n.address), 'role', n.role)
        ORDER BY n.address COLLATE "C")
     FROM (
        SELECT DISTINCT ON (coalesce(a.contact_id::text, m.address)) m.address, m.present, m.role
        FROM group_members m
        LEFT JOIN contact_addresses a ON a.connection_id = m.connection_id
            AND a.address = m.address
        WHERE m.connection_id = g.connection_id AND m.group_address = g.address
        ORDER BY coalesce(a.contact_id::text, m.address), m.at DESC, m.present DESC,
            m.role COLLATE "C" DESC, m.address COLLATE "C" DESC
     ) n WHERE n.present) AS members
FROM connections c
JOIN groups g ON g.connection_id = c.id AND g.address = $2
WHERE c.name = $1;

-- name: chat
-- A chat with its settings and labels; of a person's addresses the one heard of last tells.
SELECT c.name AS connection, k.address, k.kind = 'direct' AS direct,
    coalesce(g.subject, contact_name(k.connection_id, k.contact_id)) AS title,
    (SELECT jsonb_object_agg(n.setting, n.value) FROM (
        SELECT DISTINCT ON (s.setting) s.setting, s.value FROM chat_settings s
        WHERE s.connection_id = k.connection_id AND s.address = ANY (a.addresses)
        ORDER BY s.setting, s.at DESC, s.value DESC
     ) n) AS settings,
    (SELECT jsonb_agg(
        jsonb_build_object('id', l.id, 'name', l.name, 'color', l.color)
        ORDER BY l.id COLLATE "C")
     FROM (
        SELECT DISTINCT ON (i.label) i.label, i.labelled FROM label_links i
        WHERE i.connection_id = k.connection_id AND i.chat = ANY (a.addresses)
          AND i.message_id = ''
        ORDER BY i.label, i.at DESC, i.labelled DESC
     ) n
     JOIN labels l ON l.connection_id = k.connection_id AND l.id = n.label
     WHERE n.labelled AND NOT l.deleted) AS labels
FROM connections c
JOIN chats k ON k.connection_id = c.id AND k.id = chat_at(c.id, $2)
LEFT JOIN groups g ON k.kind = 'group' AND g.connection_id = k.connection_id
    AND g.address = k.address
CROSS JOIN LATERAL (
    SELECT CASE k.kind WHEN 'group' THEN ARRAY[k.address]
        ELSE contact_addresses_of(k.connection_id, k.contact_id) END AS addresses
) a
WHERE c.name = $1;

-- name: labels
-- The labels that are not deleted.
SELECT l.id, l.name, l.color FROM labels l
JOIN connections c ON c.id = l.connection_id
WHERE c.name = $1 AND NOT l.deleted
ORDER BY l.id COLLATE "C";
