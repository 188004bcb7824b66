-- Keeps signals that came before their step waits for them: they are not looked at until reopen_signals.sql.
--
-- $1 bigint[]  ids of intents that this transaction has taken
--
-- Plan: index scan of intent_pkey.
update saga.intent
set kept_at = clock_timestamp(), detail = 'kept: its step does not wait for it yet'
where id = any ($1);
