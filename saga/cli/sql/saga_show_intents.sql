-- What was asked of a saga, the newest first. $1 id. Plan: intent_saga.
select created_at, verb, step, actor, reason, coalesce(answer, 'waits for a worker') as answer, detail from saga.intent where saga_id = $1
 order by id desc limit 10
