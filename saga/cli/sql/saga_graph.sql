-- A definition's graph as mermaid. $1 name, $2 version or 0 for the newest. Plan: a scan of a small table.
select graph from saga.definitions where name = $1 and ($2 = 0 or version = $2) order by version desc limit 1
