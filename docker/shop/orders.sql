-- The service `orders`: what there is to buy, and what was ordered. It starts the order saga.
begin;

create schema if not exists shop;

create table shop.article (
    sku   text primary key,
    price numeric(12, 2) not null
);

create table shop.orders (
    id        text primary key,
    customer  integer not null, -- of the service `payments`, which may have a database of its own: no foreign key goes there
    sku       text not null references shop.article,
    qty       integer not null check (qty > 0),
    total     numeric(12, 2) not null,
    saga      uuid not null,
    placed_at timestamptz not null default clock_timestamp()
);

-- What a service does when an order comes in: its own row and the saga's start, in one transaction.
create function shop.place_order(order_id text, for_customer integer, wanted text, how_many integer) returns uuid
language plpgsql security definer set search_path = '' as $$
declare
    total_price numeric(12, 2);
    started     uuid;
begin
    select price * how_many into strict total_price from shop.article where sku = wanted;
    started := saga.start('order', key => order_id,
                          input => jsonb_build_object('customer', for_customer, 'sku', wanted, 'qty', how_many, 'total', total_price));
    insert into shop.orders (id, customer, sku, qty, total, saga) values (order_id, for_customer, wanted, how_many, total_price, started);
    return started;
end
$$;

insert into shop.article (sku, price) select 'A' || n, 9.90 + n from generate_series(1, 20) n;

commit;
