-- What is known besides messages. A fact may come twice, late and in any order: what replaces
-- something carries its time, and of two with the same time the greater one stays.

DROP FUNCTION IF EXISTS apply_facts(jsonb, bytea[], timestamptz);
DROP FUNCTION IF EXISTS apply_group_snapshot(integer, jsonb);
DROP FUNCTION IF EXISTS apply_group_change(integer, jsonb);
DROP FUNCTION IF EXISTS put_group(integer, text, timestamptz, jsonb);
DROP FUNCTION IF EXISTS put_member(integer, text, text, boolean, text, timestamptz);

-- Applies the facts of a batch in order, those of the queues last: see queues.sql.
CREATE FUNCTION apply_facts(p_facts jsonb, p_blobs bytea[], p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_next record;
    v_fact jsonb;
    v_queues jsonb[] := '{}';
BEGIN
    FOR v_next IN
        SELECT c.id AS connection_id, f.fact, f.fact ->> 'type' AS type,
            to_timestamp((f.fact ->> 'at')::double precision) AS at
        FROM jsonb_array_elements(p_facts) WITH ORDINALITY AS f (fact, ord)
        JOIN connections c ON c.name = f.fact ->> 'connection'
        ORDER BY f.ord
    LOOP
        v_fact := v_next.fact;
        CASE v_next.type
        WHEN 'contact_name' THEN
            INSERT INTO contact_names AS n (connection_id, address, source, name, at)
            VALUES (v_next.connection_id, v_fact ->> 'address', v_fact ->> 'source',
                v_fact ->> 'name', v_next.at)
            ON CONFLICT (connection_id, address, source) DO UPDATE
                SET name = excluded.name, at = excluded.at
                WHERE (n.at, n.name COLLATE "C") < (excluded.at, excluded.name COLLATE "C");
        WHEN 'delivery' THEN
            INSERT INTO receipts AS r (
                connection_id, external_id, chat, recipient, delivered_at, read_at, played_at)
            SELECT v_next.connection_id, id, v_fact ->> 'chat', v_fact ->> 'recipient',
                CASE v_fact ->> 'status' WHEN 'delivered' THEN v_next.at END,
                CASE v_fact ->> 'status' WHEN 'read' THEN v_next.at END,
                CASE v_fact ->> 'status' WHEN 'played' THEN v_next.at END
            FROM jsonb_array_elements_text(v_fact -> 'ids') AS ids (id)
            ON CONFLICT (connection_id, external_id, chat, recipient) DO UPDATE SET
                delivered_at = least(r.delivered_at, excluded.delivered_at),
                read_at = least(r.read_at, excluded.read_at),
                played_at = least(r.played_at, excluded.played_at);
            v_queues := v_queues || v_fact;
        WHEN 'group_snapshot' THEN
            PERFORM apply_group_snapshot(v_next.connection_id, v_fact);
        WHEN 'group_change' THEN
            PERFORM apply_group_change(v_next.connection_id, v_fact);
        WHEN 'chat_settings' THEN
            INSERT INTO chat_settings AS s (connection_id, address, setting, value, at)
            SELECT v_next.connection_id, v_fact ->> 'chat', field.key, field.value, v_next.at
            FROM jsonb_each(v_fact - '{type,connection,chat,direct,at}'::text[]) AS field
            WHERE jsonb_typeof(field.value) <> 'null'
            ON CONFLICT (connection_id, address, setting) DO UPDATE
                SET value = excluded.value, at = excluded.at
                WHERE (s.at, s.value) < (excluded.at, excluded.value);
        WHEN 'label' THEN
            INSERT INTO labels AS l (connection_id, id, name, color, deleted, at)
            VALUES (v_next.connection_id, v_fact ->> 'id', v_fact ->> 'name',
                (v_fact ->> 'color')::integer, (v_fact ->> 'deleted')::boolean, v_next.at)
            ON CONFLICT (connection_id, id) DO UPDATE SET name = excluded.name,
                color = excluded.color, deleted = excluded.deleted, at = excluded.at
                WHERE (l.at, l.deleted, l.name COLLATE "C", l.color)
                    < (excluded.at, excluded.deleted, excluded.name COLLATE "C", excluded.color);
        WHEN 'label_link' THEN
            INSERT INTO label_links AS l (connection_id, chat, label, message_id, labelled, at)
            VALUES (v_next.connection_id, v_fact ->> 'chat', v_fact ->> 'label',
                coalesce(v_fact ->> 'message_id', ''), (v_fact ->> 'labelled')::boolean,
                v_next.at)
            ON CONFLICT (connection_id, chat, label, message_id) DO UPDATE
                SET labelled = excluded.labelled, at = excluded.at
                WHERE (l.at, l.labelled) < (excluded.at, excluded.labelled);
        WHEN 'placeholder_verdict' THEN
            UPDATE messages m SET verdict = v_fact ->> 'verdict'
            FROM contact_addresses s, chats k
            WHERE s.connection_id = v_next.connection_id AND s.address = v_fact ->> 'sender'
              AND k.connection_id = v_next.connection_id
              AND CASE WHEN (v_fact ->> 'direct')::boolean THEN
                      k.kind = 'direct' AND k.contact_id = (
                          SELECT a.contact_id FROM contact_addresses a
                          WHERE a.connection_id = v_next.connection_id
                            AND a.address = v_fact ->> 'chat')
                  ELSE k.kind = 'group' AND k.address = v_fact ->> 'chat' END
              AND m.connection_id = v_next.connection_id AND m.chat_id = k.id
              AND m.sender_id = s.contact_id AND m.external_id = v_fact ->> 'external_id'
              AND m.state = 'undecryptable';
        ELSE
            v_queues := v_queues || v_fact;
        END CASE;
    END LOOP;
    IF cardinality(v_queues) > 0 THEN
        PERFORM apply_queue_facts(to_jsonb(v_queues), p_blobs, p_now);
    END IF;
END
$$;

-- Each part of a group that the fact names, where it is the newest.
CREATE FUNCTION put_group(p_connection integer, p_group text, p_at timestamptz, p_fact jsonb)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_subject text := p_fact ->> 'subject';
    v_description text := p_fact ->> 'description';
    v_announce boolean := (p_fact ->> 'announce')::boolean;
    v_locked boolean := (p_fact ->> 'locked')::boolean;
    v_expiration integer := (p_fact ->> 'expiration')::integer;
BEGIN
    INSERT INTO groups (connection_id, address) VALUES (p_connection, p_group)
    ON CONFLICT DO NOTHING;
    UPDATE groups g SET subject = v_subject, subject_at = p_at
    WHERE g.connection_id = p_connection AND g.address = p_group AND v_subject IS NOT NULL
      AND (g.subject_at IS NULL
        OR (g.subject_at, g.subject COLLATE "C") < (p_at, v_subject COLLATE "C"));
    UPDATE groups g SET description = v_description, description_at = p_at
    WHERE g.connection_id = p_connection AND g.address = p_group AND v_description IS NOT NULL
      AND (g.description_at IS NULL
        OR (g.description_at, g.description COLLATE "C") < (p_at, v_description COLLATE "C"));
    UPDATE groups g SET announce = v_announce, announce_at = p_at
    WHERE g.connection_id = p_connection AND g.address = p_group AND v_announce IS NOT NULL
      AND (g.announce_at IS NULL OR (g.announce_at, g.announce) < (p_at, v_announce));
    UPDATE groups g SET locked = v_locked, locked_at = p_at
    WHERE g.connection_id = p_connection AND g.address = p_group AND v_locked IS NOT NULL
      AND (g.locked_at IS NULL OR (g.locked_at, g.locked) < (p_at, v_locked));
    UPDATE groups g SET expiration = v_expiration, expiration_at = p_at
    WHERE g.connection_id = p_connection AND g.address = p_group AND v_expiration IS NOT NULL
      AND (g.expiration_at IS NULL OR (g.expiration_at, g.expiration) < (p_at, v_expiration));
END
$$;

-- A member came, left or changed its role.
CREATE FUNCTION put_member(
    p_connection integer, p_group text, p_address text, p_present boolean, p_role text,
    p_at timestamptz
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO group_members AS m (connection_id, group_address, address, present, role, at)
    VALUES (p_connection, p_group, p_address, p_present, p_role, p_at)
    ON CONFLICT (connection_id, group_address, address) DO UPDATE
        SET present = excluded.present, role = excluded.role, at = excluded.at
        WHERE (m.at, m.present, m.role COLLATE "C")
            < (excluded.at, excluded.present, excluded.role COLLATE "C")
$$;

-- All of a group at one time; its list of members says who is in and, for all others, who is not.
CREATE FUNCTION apply_group_snapshot(p_connection integer, p_fact jsonb)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_group text := p_fact ->> 'group';
    v_at timestamptz := to_timestamp((p_fact ->> 'at')::double precision);
    v_newest boolean;
BEGIN
    -- No description is one too: an empty one.
    PERFORM put_group(p_connection, v_group, v_at, p_fact || jsonb_build_object(
        'description', coalesce(p_fact ->> 'description', '')));
    UPDATE groups SET
        owner = coalesce(p_fact ->> 'owner', owner),
        created_at = coalesce(
            to_timestamp((p_fact ->> 'created_at')::double precision), created_at),
        members_at = v_at
    WHERE connection_id = p_connection AND address = v_group
      AND (members_at IS NULL OR members_at < v_at)
    RETURNING true INTO v_newest;
    IF v_newest THEN
        DELETE FROM group_members
        WHERE connection_id = p_connection AND group_address = v_group AND at <= v_at;
        INSERT INTO group_members (connection_id, group_address, address, present, role, at)
        SELECT p_connection, v_group, m.address, true, m.role, v_at
        FROM jsonb_to_recordset(p_fact -> 'members') AS m (address text, role text)
        ON CONFLICT (connection_id, group_address, address) DO NOTHING;
    END IF;
END
$$;

-- One change of a group. What the newest list of members includes already is no news.
CREATE FUNCTION apply_group_change(p_connection integer, p_fact jsonb)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_group text := p_fact ->> 'group';
    v_at timestamptz := to_timestamp((p_fact ->> 'at')::double precision);
BEGIN
    PERFORM put_group(p_connection, v_group, v_at, p_fact);
    PERFORM FROM groups
    WHERE connection_id = p_connection AND address = v_group
      AND (members_at IS NULL OR members_at < v_at);
    IF FOUND THEN
        PERFORM put_member(p_connection, v_group, m.address, true, m.role, v_at)
        FROM jsonb_to_recordset(p_fact -> 'joined') AS m (address text, role text);
        PERFORM put_member(p_connection, v_group, address, false, 'member', v_at)
        FROM jsonb_array_elements_text(p_fact -> 'left') AS gone (address);
    END IF;
END
$$;
