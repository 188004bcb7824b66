-- A small shop: what it owns, and what it has promised.
begin;

create schema shop;

create table shop.customer (
    id      integer primary key,
    name    text not null,
    balance numeric(12, 2) not null check (balance >= 0),
    flagged boolean not null default false -- refused as fraud
);

create table shop.stock (
    sku     text primary key,
    on_hand integer not null check (on_hand >= 0),
    price   numeric(12, 2) not null
);

create table shop.orders (
    id        text primary key,
    customer  integer not null references shop.customer,
    sku       text not null references shop.stock,
    qty       integer not null check (qty > 0),
    total     numeric(12, 2) not null,
    saga      uuid not null,
    placed_at timestamptz not null default clock_timestamp()
);

create table shop.reservation (
    id   bigint generated always as identity primary key,
    saga uuid not null unique, -- a saga reserves once; the database would say so if it did twice
    sku  text not null references shop.stock,
    qty  integer not null
);

create table shop.payment (
    id          bigint generated always as identity primary key,
    saga        uuid not null unique,
    customer    integer not null references shop.customer,
    amount      numeric(12, 2) not null,
    reservation bigint not null references shop.reservation
);

create table shop.shipment (
    id          bigint generated always as identity primary key,
    saga        uuid not null unique,
    reservation bigint not null references shop.reservation,
    payment     bigint not null references shop.payment
);

-- What a service does when an order comes in: its own row and the saga's start, in one transaction.
create function shop.place_order(order_id text, for_customer integer, wanted text, how_many integer) returns uuid
language plpgsql security definer set search_path = '' as $$
declare
    total_price numeric(12, 2);
    started     uuid;
begin
    select price * how_many into strict total_price from shop.stock where sku = wanted;
    started := saga.start('order', key => order_id,
                          input => jsonb_build_object('customer', for_customer, 'sku', wanted, 'qty', how_many, 'total', total_price));
    insert into shop.orders (id, customer, sku, qty, total, saga) values (order_id, for_customer, wanted, how_many, total_price, started);
    return started;
end
$$;

commit;
