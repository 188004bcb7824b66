-- The table of routes, whole. Plan: outbox.route once.
select type, exchange, routing_key, order_mode = 'pipelined' as pipelined, on_failure = 'hold' as holds
  from outbox.route
 limit 65537;
