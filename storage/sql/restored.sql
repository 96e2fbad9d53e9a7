-- The end of a restore, in its transaction: see storage/key_age.py. zapvisor.older says whether the
-- keys are older than what was used since, zapvisor.epoch up to which epoch they were used.
DO $restored$
DECLARE
    v_epoch bigint := current_setting('zapvisor.epoch');
BEGIN
    IF NOT current_setting('zapvisor.older')::boolean THEN
        IF to_regclass('public.database_epoch') IS NOT NULL THEN
            UPDATE public.database_epoch SET epoch = greatest(epoch, v_epoch);
        END IF;
    ELSIF to_regclass('public.stale_keys') IS NOT NULL THEN
        INSERT INTO public.stale_keys AS s (connection_id, found_at, expected)
        SELECT d.connection_id, now(),
            greatest(v_epoch, coalesce((SELECT epoch FROM public.database_epoch), 0) + 1)
        FROM public.device_identity d
        ON CONFLICT (connection_id) DO UPDATE
            SET expected = excluded.expected, accepted_at = NULL;
    ELSE  -- an older schema, whose migration reads this
        COMMENT ON TABLE public.connections IS 'zapvisor: older keys were put back';
    END IF;
END
$restored$;
