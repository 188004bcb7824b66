-- Records what somebody wants of a saga; the worker decides. Null: a signal that was given before.
-- $1 saga, $2 verb, $3 step or null, $4 argument, $5 reason or null, $6 revision that is expected, or null. Plan: function call.
select saga.intend($1, $2, $3, $4, $5, $6)
