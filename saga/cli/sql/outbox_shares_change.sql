-- Asks for $1 shares, or takes a change back; says what that made of it. Plan: one function call.
select outbox.change_shares($1::integer) as outcome;
