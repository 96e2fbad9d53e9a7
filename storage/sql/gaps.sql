-- The gap ledger. Its rules:
--   * One outage or drain of a connection goes on at a time. An outage that begins while another
--     goes on is the same one; one that begins in the middle of a drain interrupts it.
--   * What comes of the offline queue is counted with the batch that stores it, once: every step
--     of a login has a number, and those up to ``counted`` are in the row already.
--   * WhatsApp announces all it has no acknowledgement for. So what an interrupted drain lacks is
--     part of the next one, and has come when a later drain lacks nothing.
--   * What was announced and did not come stays missing, until as many new messages from before
--     that login come with a later queue, or an operator accepts it.
--   * Unreadable messages keep a gap open until they are filled or given up, quarantined ones
--     until they have left the quarantine.

DROP VIEW IF EXISTS gap_details;
DROP FUNCTION IF EXISTS apply_gaps(jsonb, text[], bigint[], timestamptz[], timestamptz);
DROP FUNCTION IF EXISTS begin_gap(integer, text, text, timestamptz, timestamptz);
DROP FUNCTION IF EXISTS announce_gap(integer, jsonb, timestamptz);
DROP FUNCTION IF EXISTS count_queued(jsonb[], text[], bigint[], timestamptz[]);
DROP FUNCTION IF EXISTS close_gaps(integer[], timestamptz);
DROP FUNCTION IF EXISTS gap_waits(integer, bigint);
DROP FUNCTION IF EXISTS last_alive(integer);
DROP FUNCTION IF EXISTS possible_hole(integer, bigint, timestamptz);
DROP TYPE IF EXISTS queued_entry;

-- A stanza of an offline queue that is not counted yet.
CREATE TYPE queued_entry AS (
    connection_id integer,
    gap_id bigint,
    number bigint,
    ord integer,                -- of its message in the batch, if it is one
    quarantined text,           -- fingerprint
    others bigint
);

-- The last moment at which a connection was surely alive, as far as rows tell: messages, and
-- transitions into or out of a login (others may be those of a new daemon).
CREATE FUNCTION last_alive(p_connection integer)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT greatest(
        (SELECT m.received_at FROM messages m
         WHERE m.connection_id = p_connection ORDER BY m.id DESC LIMIT 1),
        (SELECT e.at FROM connection_events e
         WHERE e.connection_id = p_connection
           AND (e.state IN ('syncing', 'online') OR e.previous IN ('syncing', 'online'))
         ORDER BY e.id DESC LIMIT 1))
$$;

-- Whether unreadable or quarantined messages of a gap are still waited for.
CREATE FUNCTION gap_waits(p_connection integer, p_gap bigint)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM gap_items i
        WHERE i.connection_id = p_connection AND i.gap_id = p_gap
          AND CASE i.kind
            WHEN 'message' THEN EXISTS (
                SELECT FROM messages m
                WHERE m.connection_id = p_connection AND m.id = i.item_id
                  AND m.state = 'undecryptable' AND m.verdict IS NULL)
            ELSE EXISTS (
                SELECT FROM quarantine q
                WHERE q.connection_id = p_connection AND q.id = i.item_id
                  AND q.resolved_at IS NULL)
            END)
$$;

-- Whether messages of a conversation may be missing here: it was active around or after a gap
-- that lacks some, or holds a message that cannot be read yet.
CREATE FUNCTION possible_hole(
    p_connection integer, p_conversation bigint, p_last_message_at timestamptz
) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM gaps g
        WHERE g.connection_id = p_connection AND g.closed_at IS NULL
          AND (g.missing > 0 OR g.device_replaced)
          AND g.from_at - interval '1 day' <= p_last_message_at)
    OR EXISTS (
        SELECT FROM messages m
        WHERE m.connection_id = p_connection AND m.conversation_id = p_conversation
          AND m.state = 'undecryptable' AND m.verdict IS NULL)
$$;

-- Applies the steps of a batch in order. Of its messages, by number: verdict, id and time.
CREATE FUNCTION apply_gaps(
    p_steps jsonb, p_verdicts text[], p_messages bigint[], p_sent timestamptz[],
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_next record;
    v_step jsonb;
    v_queued jsonb[] := '{}';
BEGIN
    FOR v_next IN
        SELECT c.id AS connection_id, s.step, s.step ->> 'type' AS type
        FROM jsonb_array_elements(p_steps) WITH ORDINALITY AS s (step, ord)
        JOIN connections c ON c.name = s.step ->> 'connection'
        ORDER BY s.ord
    LOOP
        v_step := v_next.step;
        IF v_next.type = 'queued' THEN  -- those of many connections are counted at once
            v_queued := v_queued || v_step;
            CONTINUE;
        ELSIF cardinality(v_queued) > 0 THEN
            PERFORM count_queued(v_queued, p_verdicts, p_messages, p_sent);
            v_queued := '{}';
        END IF;
        CASE v_next.type
        WHEN 'began' THEN
            PERFORM begin_gap(v_next.connection_id, v_step ->> 'kind', v_step ->> 'reason',
                to_timestamp((v_step ->> 'at')::double precision), p_now);
        WHEN 'announced' THEN
            PERFORM announce_gap(v_next.connection_id, v_step, p_now);
        WHEN 'drained' THEN
            UPDATE gaps SET
                to_at = greatest(
                    from_at, to_timestamp((v_step ->> 'at')::double precision)),
                other = other + (v_step ->> 'others')::bigint,
                announced = coalesce(announced, stored + duplicate + undecryptable + quarantined
                    + other + (v_step ->> 'others')::bigint),
                counted = (v_step ->> 'number')::bigint
            WHERE connection_id = v_next.connection_id AND login = v_step ->> 'login'
              AND to_at IS NULL AND counted < (v_step ->> 'number')::bigint;
        WHEN 'replaced' THEN
            UPDATE gaps SET device_replaced = true
            WHERE connection_id = v_next.connection_id AND closed_at IS NULL
              AND (to_at IS NULL OR interrupted AND covered_by IS NULL);
        END CASE;
    END LOOP;
    IF cardinality(v_queued) > 0 THEN
        PERFORM count_queued(v_queued, p_verdicts, p_messages, p_sent);
    END IF;
END
$$;

CREATE FUNCTION begin_gap(
    p_connection integer, p_kind text, p_reason text, p_at timestamptz, p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_current gaps;
    v_at timestamptz;
BEGIN
    SELECT * INTO v_current FROM gaps g
    WHERE g.connection_id = p_connection AND g.to_at IS NULL;
    IF FOUND AND v_current.login IS NULL THEN
        RETURN;
    END IF;
    v_at := coalesce(p_at, least(last_alive(p_connection), p_now), p_now);
    IF v_current.id IS NOT NULL THEN
        UPDATE gaps g SET to_at = greatest(v_at, g.from_at), interrupted = true
        WHERE g.connection_id = p_connection AND g.id = v_current.id;
    END IF;
    INSERT INTO gaps (connection_id, kind, reason, from_at)
    VALUES (p_connection, p_kind, p_reason, v_at);
END
$$;

CREATE FUNCTION announce_gap(p_connection integer, p_step jsonb, p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_at timestamptz := to_timestamp((p_step ->> 'at')::double precision);
    v_began jsonb := nullif(p_step -> 'began', 'null');
    v_login text;
BEGIN
    UPDATE gaps g SET
        announced = greatest(g.announced, (p_step ->> 'announced')::bigint),
        announced_messages = greatest(
            g.announced_messages, (p_step ->> 'messages')::bigint)
    WHERE g.connection_id = p_connection AND g.login = p_step ->> 'login';
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT g.login INTO v_login FROM gaps g
    WHERE g.connection_id = p_connection AND g.to_at IS NULL;
    IF NOT FOUND AND v_began IS NULL THEN
        PERFORM begin_gap(p_connection, 'linked', 'linked', v_at, p_now);
    ELSIF NOT FOUND OR v_login IS NOT NULL THEN
        PERFORM begin_gap(p_connection, coalesce(v_began ->> 'kind', 'ended'),
            coalesce(v_began ->> 'reason', 'unknown'),
            to_timestamp((v_began ->> 'at')::double precision), p_now);
    END IF;
    UPDATE gaps g SET login = p_step ->> 'login', login_at = v_at,
        horizon = to_timestamp((p_step ->> 'horizon')::double precision),
        announced = (p_step ->> 'announced')::bigint,
        announced_messages = (p_step ->> 'messages')::bigint
    WHERE g.connection_id = p_connection AND g.to_at IS NULL;
END
$$;

-- Counts stanzas of offline queues, each once.
CREATE FUNCTION count_queued(
    p_steps jsonb[], p_verdicts text[], p_messages bigint[], p_sent timestamptz[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_new queued_entry[] := ARRAY(
        SELECT ROW (g.connection_id, g.id, e.number, e.ord, e.quarantined, e.others)::queued_entry
        FROM unnest(p_steps) AS s (step)
        JOIN connections c ON c.name = s.step ->> 'connection'
        JOIN gaps g ON g.connection_id = c.id AND g.login = s.step ->> 'login'
        CROSS JOIN LATERAL jsonb_to_recordset(s.step -> 'entries')
            AS e (number bigint, ord integer, quarantined text, others bigint)
        WHERE e.number > g.counted);
    v_short record;
    v_before bigint := 0;
    v_used bigint := 0;
    v_late bigint;
BEGIN
    IF 'placeholder' = ANY (p_verdicts)
        OR EXISTS (SELECT FROM unnest(v_new) e WHERE e.quarantined IS NOT NULL)
    THEN
        INSERT INTO gap_items (connection_id, gap_id, kind, item_id)
        SELECT e.connection_id, e.gap_id, 'message', p_messages[e.ord]
        FROM unnest(v_new) e
        WHERE p_verdicts[e.ord] = 'placeholder'
        UNION
        SELECT e.connection_id, e.gap_id, 'quarantine', q.id
        FROM unnest(v_new) e
        JOIN quarantine q ON q.connection_id = e.connection_id AND q.fingerprint = e.quarantined
        WHERE q.attempts = 1
        ON CONFLICT DO NOTHING;
    END IF;
    UPDATE gaps g SET counted = n.last, stored = g.stored + n.stored,
        duplicate = g.duplicate + n.duplicate, undecryptable = g.undecryptable + n.undecryptable,
        quarantined = g.quarantined + n.quarantined, other = g.other + n.other
    FROM (
        SELECT e.connection_id, e.gap_id, max(e.number) AS last,
            count(*) FILTER (WHERE v.verdict IN ('stored', 'filled')) AS stored,
            count(*) FILTER (WHERE v.verdict = 'duplicate' OR q.attempts > 1) AS duplicate,
            count(*) FILTER (WHERE v.verdict = 'placeholder') AS undecryptable,
            count(*) FILTER (WHERE q.attempts = 1) AS quarantined,
            count(*) FILTER (WHERE v.verdict IS NULL AND q.id IS NULL) + sum(e.others) AS other
        FROM unnest(v_new) e
        CROSS JOIN LATERAL (SELECT p_verdicts[e.ord] AS verdict) v
        LEFT JOIN quarantine q ON q.connection_id = e.connection_id
            AND q.fingerprint = e.quarantined
        GROUP BY e.connection_id, e.gap_id
    ) n
    WHERE g.connection_id = n.connection_id AND g.id = n.gap_id;

    -- New messages from before an earlier login that lacked some: those, come after all.
    FOR v_short IN
        SELECT g.connection_id, g.id, g.missing, g.horizon, n.gap_id
        FROM (SELECT DISTINCT e.connection_id, e.gap_id FROM unnest(v_new) e) n
        JOIN gaps g ON g.connection_id = n.connection_id AND g.id < n.gap_id
        WHERE g.closed_at IS NULL AND NOT g.interrupted AND g.missing > 0
          AND g.horizon IS NOT NULL
        ORDER BY n.gap_id, g.id
    LOOP
        IF v_short.gap_id <> v_before THEN
            v_before := v_short.gap_id;
            v_used := 0;
        END IF;
        SELECT least(greatest(count(*) - v_used, 0), v_short.missing) INTO v_late
        FROM unnest(v_new) e
        WHERE e.gap_id = v_short.gap_id AND p_verdicts[e.ord] = 'stored'
          AND p_sent[e.ord] < v_short.horizon;
        UPDATE gaps g SET covered = g.covered + v_late, covered_by = v_short.gap_id
        WHERE g.connection_id = v_short.connection_id AND g.id = v_short.id AND v_late > 0;
        v_used := v_used + v_late;
    END LOOP;
END
$$;

-- Closes the gaps of which nothing is missing or waited for.
CREATE FUNCTION close_gaps(p_connections integer[], p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE gaps g SET covered = g.covered + g.missing, covered_by = n.id
    FROM (
        SELECT c.id AS connection_id, (  -- the newest drain that lacks nothing
            SELECT l.id FROM gaps l
            WHERE l.connection_id = c.id AND l.to_at IS NOT NULL AND NOT l.interrupted
              AND (l.missing = 0 OR l.resolution = 'accepted')
            ORDER BY l.id DESC LIMIT 1) AS id
        FROM unnest(p_connections) AS c (id)
        OFFSET 0
    ) n
    WHERE g.connection_id = n.connection_id AND g.id < n.id AND g.closed_at IS NULL
      AND g.interrupted AND g.covered_by IS NULL AND NOT g.device_replaced;
    UPDATE gaps g SET closed_at = p_now,
        resolution = CASE
            WHEN EXISTS (
                SELECT FROM gap_items i
                JOIN messages m ON m.connection_id = i.connection_id AND m.id = i.item_id
                WHERE i.connection_id = g.connection_id AND i.gap_id = g.id
                  AND i.kind = 'message' AND m.verdict IS NOT NULL) THEN 'given_up'
            WHEN g.covered_by IS NOT NULL THEN 'covered'
            ELSE 'complete' END
    WHERE g.connection_id = ANY (p_connections) AND g.closed_at IS NULL AND g.to_at IS NOT NULL
      AND g.missing = 0 AND NOT g.device_replaced
      AND (NOT g.interrupted OR g.covered_by IS NOT NULL)
      AND NOT gap_waits(g.connection_id, g.id);
END
$$;

-- For operators too.
CREATE VIEW gap_details AS
SELECT g.connection_id, g.id, c.name AS connection, g.kind, g.reason,
    CASE WHEN g.closed_at IS NOT NULL THEN 'closed' WHEN g.to_at IS NOT NULL THEN 'open'
        WHEN g.login IS NOT NULL THEN 'draining' ELSE 'out' END AS state,
    g.from_at, g.login_at, g.to_at, g.interrupted, g.device_replaced, g.announced,
    g.announced_messages, g.stored, g.duplicate, g.undecryptable, g.quarantined, g.other,
    g.covered, g.missing, n.waiting, n.given_up, n.in_quarantine, g.covered_by, g.resolution,
    g.closed_at, g.accepted_by
FROM gaps g
JOIN connections c ON c.id = g.connection_id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE m.id IS NOT NULL AND m.verdict IS NULL) AS waiting,
        count(*) FILTER (WHERE m.verdict IS NOT NULL) AS given_up,
        count(q.id) AS in_quarantine
    FROM gap_items i
    LEFT JOIN messages m ON i.kind = 'message' AND m.connection_id = i.connection_id
        AND m.id = i.item_id AND m.state = 'undecryptable'
    LEFT JOIN quarantine q ON i.kind = 'quarantine' AND q.connection_id = i.connection_id
        AND q.id = i.item_id AND q.resolved_at IS NULL
    WHERE i.connection_id = g.connection_id AND i.gap_id = g.id
) n;
