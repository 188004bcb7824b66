-- The same for a failure: its code, message and details are put together here, so that a program need not write JSON.
--   $1 the message's body, $2 outcome, $3 code, $4 message, $5 details
-- Plan: as reply.sql.
select saga.reply($1::jsonb, $2::text,
                  pg_catalog.jsonb_build_object('code', $3::text, 'message', coalesce($4::text, ''), 'details', coalesce($5::jsonb, '{}')));
