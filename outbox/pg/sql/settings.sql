-- The first statement on each connection: the settings that our statements rest on, and limits.
--   $1 statement_timeout, $2 lock_timeout, $3 idle_in_transaction_session_timeout, in milliseconds; null: leave
-- What we rest on is set whatever the user, the role or the database say; the rest gives way to what the user put into the connection
-- string (`options`), which has the source 'client'. client_connection_check_interval lets the server notice a dead client while it waits
-- for a lock: without it the queue for a share's lock fills with the dead. Only servers on Linux accept it.
-- Plan: a hash join of pg_settings, a function of some 350 rows, with eleven values; once a connection.
select pg_catalog.set_config(s.name, wanted.value, false)
  from pg_catalog.pg_settings as s,
       (values ('search_path', '', true),
               ('DateStyle', 'ISO', true),
               ('standard_conforming_strings', 'on', true),
               ('default_transaction_isolation', 'read committed', true),
               ('jit', 'off', false),
               ('client_min_messages', 'warning', false),
               ('client_connection_check_interval', '1000', false),
               ('statement_timeout', $1::text, false),
               ('lock_timeout', $2::text, false),
               ('idle_session_timeout', '0', false), -- a daemon that waits for work is idle
               ('idle_in_transaction_session_timeout', $3::text, false)) as wanted (name, value, always)
 where s.name = wanted.name
   and wanted.value is not null
   and (wanted.always or s.source <> 'client')
   and (s.name <> 'client_connection_check_interval' or pg_catalog.version() ~ 'linux');
