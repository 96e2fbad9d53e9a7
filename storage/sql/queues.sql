-- The functions of the queues: facts that commit with a batch and move their rows.
--
-- Each fact may come twice: a batch whose outcome was lost is applied again. So a fact changes
-- nothing once it, or what outranks it, has been applied.

DROP FUNCTION IF EXISTS apply_queue_facts(jsonb, bytea[], timestamptz);
DROP FUNCTION IF EXISTS apply_app_state(integer, jsonb, bytea[], timestamptz);
DROP FUNCTION IF EXISTS apply_history_step(integer, jsonb, timestamptz);
DROP FUNCTION IF EXISTS move_outbox(integer, bigint, text[], text, text, timestamptz);
DROP FUNCTION IF EXISTS outbox_rank(text);
DROP FUNCTION IF EXISTS reset_queue_records(integer[]);

-- The one table of the outbox: a row moves to a higher rank, never back.
CREATE FUNCTION outbox_rank(p_state text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT array_position(ARRAY[
        'queued', 'sending', 'unknown', 'failed', 'sent', 'delivered', 'read', 'played'],
        p_state) - 1
$$;

-- Moves messages of the outbox, by id or by external ids, where the state outranks theirs; of
-- two facts of one rank the earlier one stays.
CREATE FUNCTION move_outbox(
    p_connection integer, p_id bigint, p_external_ids text[],
    p_state text, p_reason text, p_at timestamptz
) RETURNS void LANGUAGE sql AS $$
    UPDATE outbox o SET
        state = CASE WHEN m.wins THEN p_state ELSE o.state END,
        reason = CASE WHEN m.wins THEN p_reason ELSE o.reason END,
        updated_at = CASE WHEN m.wins THEN p_at ELSE o.updated_at END,
        sent_at = CASE WHEN p_state = 'sent' THEN least(o.sent_at, p_at) ELSE o.sent_at END
    FROM (
        SELECT i.id,
            (outbox_rank(p_state), i.updated_at) > (outbox_rank(i.state), p_at) AS wins
        FROM outbox i
        WHERE i.connection_id = p_connection
          AND (i.id = p_id OR i.external_id = ANY (p_external_ids))
        ORDER BY i.id
        FOR UPDATE
    ) m
    WHERE o.connection_id = p_connection AND o.id = m.id
      AND (m.wins OR p_state = 'sent' AND (o.sent_at IS NULL OR p_at < o.sent_at))
$$;

-- How far the import of a chunk is; counts are added once, with the step that moves it forward.
CREATE FUNCTION apply_history_step(p_connection integer, p_fact jsonb, p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE history_chunks SET
        state = p_fact ->> 'state',
        position = greatest(position, (p_fact ->> 'position')::bigint),
        total = greatest(total, (p_fact ->> 'total')::bigint),
        error = p_fact ->> 'error',
        sealed = CASE WHEN p_fact ->> 'state' = 'done' THEN NULL ELSE sealed END,
        updated_at = p_now
    WHERE connection_id = p_connection AND key = p_fact ->> 'key'
      AND state IN ('pending', 'importing')
      AND ((p_fact ->> 'position')::bigint > position OR p_fact ->> 'state' <> 'importing'
           OR state = 'pending');
    IF FOUND THEN
        INSERT INTO history_chats AS h (connection_id, chat, offered, stored, duplicate, failed)
        SELECT p_connection, n.chat, sum(n.offered), sum(n.stored), sum(n.duplicate),
            sum(n.failed)
        FROM jsonb_to_recordset(p_fact -> 'counts')
            AS n (chat text, offered bigint, stored bigint, duplicate bigint, failed bigint)
        GROUP BY n.chat
        ON CONFLICT (connection_id, chat) DO UPDATE SET
            offered = h.offered + excluded.offered, stored = h.stored + excluded.stored,
            duplicate = h.duplicate + excluded.duplicate, failed = h.failed + excluded.failed;
    END IF;
END
$$;

-- One verified snapshot or patch of a collection; an older patch changes nothing. The bytes of a
-- field are numbered in a row, so that thousands of them are found in one pass.
CREATE FUNCTION apply_app_state(
    p_connection integer, p_fact jsonb, p_blobs bytea[], p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_collection text := p_fact ->> 'collection';
    v_reset boolean := (p_fact -> 'reset')::boolean;
    v_values integer := (p_fact #> '{values,0,0}')::integer;
    v_removed integer := (p_fact #> '{removed,0}')::integer;
BEGIN
    INSERT INTO app_state AS a (connection_id, collection, version, hash, updated_at)
    VALUES (p_connection, v_collection, (p_fact -> 'version')::bigint,
        p_blobs[(p_fact -> 'hash')::integer], p_now)
    ON CONFLICT (connection_id, collection) DO UPDATE SET
        version = excluded.version, hash = excluded.hash, updated_at = excluded.updated_at
    WHERE v_reset OR excluded.version > a.version;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF v_reset THEN
        DELETE FROM app_state_macs
        WHERE connection_id = p_connection AND collection = v_collection;
    ELSIF v_removed IS NOT NULL THEN
        DELETE FROM app_state_macs
        WHERE connection_id = p_connection AND collection = v_collection
          AND index_mac = ANY (ARRAY(
            SELECT b.blob FROM unnest(p_blobs) WITH ORDINALITY AS b (blob, number)
            WHERE b.number >= v_removed
              AND b.number < v_removed + jsonb_array_length(p_fact -> 'removed')));
    END IF;
    IF v_values IS NOT NULL THEN
        INSERT INTO app_state_macs (connection_id, collection, index_mac, value_mac)
        SELECT p_connection, v_collection, p.index_mac, p.value_mac
        FROM (
            SELECT b.number, b.blob AS index_mac, lead(b.blob) OVER (ORDER BY b.number) AS value_mac
            FROM unnest(p_blobs) WITH ORDINALITY AS b (blob, number)
            WHERE b.number >= v_values
              AND b.number < v_values + 2 * jsonb_array_length(p_fact -> 'values')
        ) p
        WHERE (p.number - v_values) % 2 = 0
        ON CONFLICT (connection_id, collection, index_mac) DO UPDATE
            SET value_mac = excluded.value_mac;
    END IF;
END
$$;

-- A new device takes the place of the old one: what belonged to the old one goes. Messages to
-- send, files and history stay: they are the account's.
CREATE FUNCTION reset_queue_records(p_connections integer[]) RETURNS void LANGUAGE sql AS $$
    DELETE FROM app_state WHERE connection_id = ANY (p_connections);
    DELETE FROM device_lists WHERE connection_id = ANY (p_connections);
$$;

-- Applies those facts of a batch that concern the queues, in their order: objects as encode.py
-- makes them, with the numbers of their bytes in p_blobs. The others are not for us.
CREATE FUNCTION apply_queue_facts(p_facts jsonb, p_blobs bytea[], p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_connection integer;
    v_fact jsonb;
BEGIN
    FOR v_connection, v_fact IN
        SELECT c.id, f.fact FROM jsonb_array_elements(p_facts) WITH ORDINALITY AS f (fact, ord)
        JOIN connections c ON c.name = f.fact ->> 'connection'
        WHERE f.fact ->> 'type' IN ('outbox_step', 'delivery', 'history_offered', 'history_step',
            'app_state_step', 'device_list')
        ORDER BY f.ord
    LOOP
        CASE v_fact ->> 'type'
        WHEN 'outbox_step' THEN
            PERFORM move_outbox(v_connection, (v_fact -> 'id')::bigint, NULL,
                v_fact ->> 'state', v_fact ->> 'reason',
                to_timestamp((v_fact -> 'at')::double precision));
        WHEN 'delivery' THEN
            PERFORM move_outbox(v_connection, NULL,
                ARRAY(SELECT jsonb_array_elements_text(v_fact -> 'ids')), v_fact ->> 'status',
                NULL, to_timestamp((v_fact -> 'at')::double precision));
        WHEN 'history_offered' THEN
            INSERT INTO history_chunks (connection_id, key, sealed, sync_type, chunk_order,
                progress, request_id, offered_at, updated_at)
            VALUES (v_connection, v_fact ->> 'key',
                p_blobs[(v_fact -> 'notification')::integer], v_fact ->> 'sync_type',
                (v_fact -> 'chunk_order')::integer, (v_fact -> 'progress')::integer,
                v_fact ->> 'request_id', p_now, p_now)
            ON CONFLICT (connection_id, key) DO NOTHING;
        WHEN 'history_step' THEN
            PERFORM apply_history_step(v_connection, v_fact, p_now);
        WHEN 'app_state_step' THEN
            PERFORM apply_app_state(v_connection, v_fact, p_blobs, p_now);
        WHEN 'device_list' THEN
            INSERT INTO device_lists AS d (connection_id, account, devices, at)
            VALUES (v_connection, v_fact ->> 'account',
                ARRAY(SELECT jsonb_array_elements_text(v_fact -> 'devices')::integer),
                to_timestamp((v_fact -> 'at')::double precision))
            ON CONFLICT (connection_id, account) DO UPDATE
                SET devices = excluded.devices, at = excluded.at
                WHERE d.at <= excluded.at;
        END CASE;
    END LOOP;
END
$$;
