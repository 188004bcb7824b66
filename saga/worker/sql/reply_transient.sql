-- Answers a command that could not be carried out now: try again.
--
-- $1 jsonb  the command's body    $2 text  code    $3 text  message
--
-- Plan: function call.
select saga.reply($1, 'transient', jsonb_build_object('code', $2::text, 'message', $3::text)) as answer;
