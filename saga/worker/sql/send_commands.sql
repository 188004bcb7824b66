-- Maps the inputs of commands and puts them into the outbox. A row comes back for each command that was not sent, as an event for the
-- machine: its input cannot be built, with the reason; its step's condition does not hold; or it asked for a list, which is so long.
--
-- $1 uuid[] saga    $2 integer[] index of the step    $3 text[] operation    $4 integer[] round    $5 integer[] attempt   $6 integer[] element
--
-- Plan: function scan.
select ordinal, event, reason, elements_found from saga.send_commands($1, $2, $3, $4, $5, $6);
