-- Carries out commands of child sagas: starts, cancels and takes them back. Rows come back as from send_commands.sql.
--
-- $1 integer[] ordinal among the commands of the pass   $2 uuid[] saga   $3 integer[] index of the step   $4 text[] operation
-- $5 integer[] round   $6 integer[] attempt
--
-- Plan: function scan.
select ordinal, event, reason, null::integer as elements_found from saga.send_children($1, $2, $3, $4, $5, $6);
