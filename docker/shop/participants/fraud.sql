-- fraud.sql: one command, which is in the file $COMMAND. Ends well only when COMMIT was answered.
\set command `cat "$COMMAND"`
begin;
select verdict = 'execute' as execute, input ->> 'customer' as customer from saga.receive(:'command') \gset
\if :execute
    savepoint work;
    select flagged as refused from shop.customer where id = :'customer' \gset
    \if :refused
        rollback to work;
        select saga.reply(:'command', 'failed',
                          jsonb_build_object('code', 'fraud', 'message', format('customer %s is refused', :'customer')));
    \else
        select saga.reply(:'command', 'ok', '{"score": 0.02}');
    \endif
\endif
commit; -- every other verdict is answered already
