-- The counts of conversations by status in counters, kept by what changes conversations, so that
-- nobody has to count them. Whatever changes a status has locked the connection's counters first.

CREATE OR REPLACE FUNCTION count_conversation()
RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_connection integer;
    v_was text;
    v_is text;
    v_reopened bigint := 0;
BEGIN
    IF TG_OP <> 'UPDATE' AND current_setting('zapvisor.importing', true) = 'on' THEN
        RETURN NULL;  -- it counts by itself, all at once
    END IF;
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        v_connection := OLD.connection_id;
        IF OLD.merged_into IS NULL THEN
            v_was := OLD.status;
            v_reopened := v_reopened - OLD.reopened;
        END IF;
    END IF;
    IF TG_OP IN ('UPDATE', 'INSERT') THEN
        v_connection := NEW.connection_id;
        IF NEW.merged_into IS NULL THEN
            v_is := NEW.status;
            v_reopened := v_reopened + NEW.reopened;
        END IF;
    END IF;
    UPDATE counters SET
        waiting = waiting
            + (v_is IS NOT DISTINCT FROM 'waiting')::integer
            - (v_was IS NOT DISTINCT FROM 'waiting')::integer,
        opened = opened
            + (v_is IS NOT DISTINCT FROM 'open')::integer
            - (v_was IS NOT DISTINCT FROM 'open')::integer,
        closed = closed
            + (v_is IS NOT DISTINCT FROM 'closed')::integer
            - (v_was IS NOT DISTINCT FROM 'closed')::integer,
        reopened = reopened + v_reopened
    WHERE connection_id = v_connection;
    RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS conversation_came_or_went ON conversations;
CREATE TRIGGER conversation_came_or_went AFTER INSERT OR DELETE ON conversations
    FOR EACH ROW EXECUTE FUNCTION count_conversation();

DROP TRIGGER IF EXISTS conversation_changed ON conversations;
CREATE TRIGGER conversation_changed AFTER UPDATE ON conversations
    FOR EACH ROW WHEN (
        OLD.status <> NEW.status OR OLD.reopened <> NEW.reopened
        OR OLD.merged_into IS DISTINCT FROM NEW.merged_into)
    EXECUTE FUNCTION count_conversation();
