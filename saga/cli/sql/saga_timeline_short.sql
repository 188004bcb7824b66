-- What happened to a saga, for people: of what happened to many elements of a fan-out the first, and how many more until when. $1 id, $2 how
-- many of each event, and of an error not where in the handler's code it was raised. Plan: the history's index.
with happened as (
    select id, at, event, step, detail #- '{error,details,context}' as detail, detail ->> 'element' as element,
           row_number() over (partition by step, event, detail ? 'element' order by at, id) as turn,
           count(*) over (partition by step, event, detail ? 'element') as times
      from saga.timeline where saga_id = $1
)
select at, event, step, detail
  from (select id, at, event, step || coalesce('[' || element || ']', '') as step, detail from happened
         where element is null or turn <= $2 or times <= $2 + 1
        union all
        select max(id), max(at), event, format('%s, %s more', step, count(*)), null from happened
         where element is not null and turn > $2 and times > $2 + 1
         group by step, event) h
 order by at, id
