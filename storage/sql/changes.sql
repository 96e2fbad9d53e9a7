-- Who looked at what messages said before: rows are added, and deleted only once they are old.

CREATE OR REPLACE FUNCTION keep_history_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.at < now() - interval '29 days' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'accesses to former content are not changed, nor deleted before their age';
END
$$;

DROP TRIGGER IF EXISTS keep ON history_accesses;
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON history_accesses
    FOR EACH ROW EXECUTE FUNCTION keep_history_access();
DROP TRIGGER IF EXISTS keep_all ON history_accesses;
CREATE TRIGGER keep_all BEFORE TRUNCATE ON history_accesses
    FOR EACH STATEMENT EXECUTE FUNCTION keep_history_access();
