-- Makes the log this server's; $1: the transaction ids stayed the same (pg_upgrade). Plan: one function call; it updates the whole log.
select outcome, settled_rows, unsettled_rows from outbox.rebase($1::boolean);
