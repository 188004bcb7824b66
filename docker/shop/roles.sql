-- Who does what: the web shop places orders, the relay publishes, the workers drive sagas and run handlers. None is a superuser.
begin;

create role shop_web login in role sagapost_writer;
create role shop_relay login in role sagapost_relay;
create role shop_worker login in role sagapost_worker;

grant usage on schema shop to shop_web, shop_worker;
revoke execute on all functions in schema shop from public;
grant execute on function shop.place_order to shop_web;
grant execute on function shop.reserve, shop.release, shop.check_fraud, shop.capture, shop.book_shipment to shop_worker;

commit;
