-- The daily report: what it counts as it happens, and its making once per day.

-- One of the ways of a conversation, in its quarter of an hour. Whatever changes a status has
-- locked the connection's counters first, so no two transactions meet in a row.
CREATE OR REPLACE FUNCTION count_conversation_quarter()
RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_opened integer := (TG_OP = 'INSERT')::integer;
    v_reopened integer := 0;
    v_at timestamptz := NEW.opened_at;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        v_reopened := (NEW.reopened > OLD.reopened)::integer;
        v_at := CASE WHEN v_reopened = 1 THEN NEW.reopened_at ELSE NEW.closed_at END;
    END IF;
    INSERT INTO conversation_quarters AS q (connection_id, quarter, opened, reopened, closed)
    VALUES (NEW.connection_id, floor(extract(epoch FROM v_at) / 900)::bigint,
        v_opened, v_reopened, 1 - v_opened - v_reopened)
    ON CONFLICT (connection_id, quarter) DO UPDATE SET opened = q.opened + excluded.opened,
        reopened = q.reopened + excluded.reopened, closed = q.closed + excluded.closed;
    RETURN NULL;
END
$$;

-- What only the history knows is made closed, and was never opened here.
DROP TRIGGER IF EXISTS conversation_opened ON conversations;
CREATE TRIGGER conversation_opened AFTER INSERT ON conversations
    FOR EACH ROW WHEN (NEW.status <> 'closed')
    EXECUTE FUNCTION count_conversation_quarter();

-- One that goes into another is not closed by anybody.
DROP TRIGGER IF EXISTS conversation_went ON conversations;
CREATE TRIGGER conversation_went AFTER UPDATE ON conversations
    FOR EACH ROW WHEN (NEW.merged_into IS NULL AND (
        NEW.reopened > OLD.reopened OR OLD.status <> 'closed' AND NEW.status = 'closed'))
    EXECUTE FUNCTION count_conversation_quarter();

-- Records that the report of a day is made, and queues its notification; false: it was before.
CREATE OR REPLACE FUNCTION save_report(
    p_day date, p_zone text, p_now timestamptz, p_notifications jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO reports (day, zone, made_at) VALUES (p_day, p_zone, p_now)
    ON CONFLICT (day) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM enqueue_notifications(p_notifications);
    RETURN true;
END
$$;
