-- Maps the inputs of commands and puts them into the outbox. A row comes back for each command that was not sent, as an event for the
-- machine: its input cannot be built, with the reason; or its step's condition does not hold.
--
-- $1 uuid[] saga    $2 integer[] index of the step    $3 text[] operation    $4 integer[] round    $5 integer[] attempt
--
-- Plan: function scan.
select ordinal, event, reason from saga.send_commands($1, $2, $3, $4, $5);
