-- Who does what: the web shop places orders, the relay publishes, the workers drive sagas and run handlers, a program that takes part in them
-- (participants/) works on the tables. None is a superuser. Roles belong to the server and rights to a database: run it in each database.
do $$
declare
    made record;
begin
    for made in values ('shop_web', 'sagapost_writer'), ('shop_relay', 'sagapost_relay'), ('shop_worker', 'sagapost_worker'),
                       ('shop_participant', 'sagapost_participant')
    loop
        if to_regrole(made.column1) is null then
            execute format('create role %I login', made.column1);
        end if;
        execute format('grant %I to %I', made.column2, made.column1);
    end loop;

    grant usage on schema shop to shop_web, shop_worker, shop_participant;
    revoke execute on all functions in schema shop from public;
    if to_regproc('shop.place_order') is not null then
        grant execute on function shop.place_order to shop_web;
    end if;
    if to_regclass('shop.stock') is not null then
        grant execute on function shop.reserve, shop.release, shop.book_shipment to shop_worker;
        grant select, update on shop.stock to shop_participant;
        grant select, insert, delete on shop.reservation to shop_participant;
    end if;
    if to_regclass('shop.customer') is not null then
        grant execute on function shop.check_fraud, shop.capture to shop_worker;
        grant select, update on shop.customer to shop_participant;
        grant select, insert on shop.payment to shop_participant;
    end if;
end
$$;
