-- The intent just recorded on this session's behalf: the newest of this verb. $1 saga, $2 verb. Plan: a short scan from the end of the primary key.
select max(id) from saga.intent where saga_id = $1 and verb = $2 and actor = session_user
