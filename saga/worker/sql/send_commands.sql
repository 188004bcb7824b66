-- Maps the inputs of commands and puts them into the outbox. A row comes back for each command whose input cannot be built, with the
-- reason; that one was not sent.
--
-- $1 uuid[] saga    $2 integer[] index of the step    $3 text[] operation    $4 integer[] round    $5 integer[] attempt
--
-- Plan: function scan.
select ordinal, error from saga.send_commands($1, $2, $3, $4, $5) where error is not null;
