-- The functions of the archive: what is read out, and how it is put back.

DROP VIEW IF EXISTS archived_messages;
DROP FUNCTION IF EXISTS of_nobody(integer, bigint, bigint);
DROP FUNCTION IF EXISTS is_nobody(integer, bigint);
DROP FUNCTION IF EXISTS conversation_nth(integer, bigint, timestamptz, bigint);

-- The number of a conversation among those of its chat that were opened at the same moment.
CREATE FUNCTION conversation_nth(
    p_connection integer, p_chat bigint, p_opened_at timestamptz, p_id bigint
) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT 1 + count(*)::integer FROM conversations v
    WHERE v.connection_id = p_connection AND v.chat_id = p_chat
        AND v.opened_at = p_opened_at AND v.id < p_id
$$;

-- Whether a contact is the shell of somebody who was forgotten: they have no address any more, so
-- an archive could not name them.
CREATE FUNCTION is_nobody(p_connection integer, p_contact bigint)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT p_contact IS NOT NULL AND NOT EXISTS (
        SELECT FROM contact_addresses a
        WHERE a.connection_id = p_connection AND a.contact_id = p_contact)
    AND NOT EXISTS (
        SELECT FROM contacts c
        WHERE c.connection_id = p_connection AND c.id = p_contact AND c.is_self)
$$;

-- Whether a message is of the chat with one of them, or by one of them.
CREATE FUNCTION of_nobody(p_connection integer, p_chat bigint, p_sender bigint)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT is_nobody(p_connection, p_sender) OR EXISTS (
        SELECT FROM chats k
        WHERE k.connection_id = p_connection AND k.id = p_chat AND k.kind = 'direct'
          AND is_nobody(p_connection, k.contact_id))
$$;

-- Messages as an archive has them. The author: NULL for the account itself, the chat's address for
-- its contact.
CREATE VIEW archived_messages AS
SELECT m.connection_id, m.id, k.kind AS chat_kind, k.address AS chat,
    CASE WHEN s.is_self THEN NULL
         WHEN s.id = k.contact_id THEN k.address
         ELSE contact_address(s.connection_id, s.id) END AS sender,
    v.opened_at AS conversation_opened_at,
    conversation_nth(v.connection_id, v.chat_id, v.opened_at, v.id) AS conversation_nth,
    m.external_id, m.kind, m.state, m.from_me, m.lane, m.remote_timestamp, m.sent_at,
    m.received_at, m.filled_at, m.retries, m.reason, m.verdict, m.text, m.raw, m.target_id,
    m.target_author, m.quoted_id, m.quoted_author, m.mentions, m.flags, m.detail, m.erased,
    m.erased_at,
    f.kind AS media_kind, f.mimetype AS media_mimetype, f.size AS media_size,
    f.name AS media_name, f.sha256 AS media_sha256, f.live AS media_live,
    f.state AS media_state, f.direct_path AS media_direct_path,
    f.blob_sha256 AS media_blob_sha256, f.blob_size AS media_blob_size,
    f.stored_at AS media_stored_at, f.error AS media_error
FROM messages m
JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id
JOIN contacts s ON s.connection_id = m.connection_id AND s.id = m.sender_id
JOIN conversations v ON v.connection_id = m.connection_id AND v.id = m.conversation_id
LEFT JOIN media f ON f.connection_id = m.connection_id AND f.message_id = m.id;
