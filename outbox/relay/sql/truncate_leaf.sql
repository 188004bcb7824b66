-- Empties the leaf $1 if every row of it is behind every persisted position; says what it did. Alone in its transaction.
-- Plan: one function call.
select outbox.truncate_leaf($1::integer) as outcome;
