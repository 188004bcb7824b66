-- The same of many, each at the revision at which it was seen. A row for each that was recorded.
-- $1 sagas, $2 revisions, $3 verb, $4 step or null, $5 argument, $6 reason or null. Plan: function call.
select saga, intent from saga.intend_many($1, $2, $3, $4, $5, $6)
