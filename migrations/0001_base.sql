-- part: base
-- Schemas, roles, the record of what was applied, and message ids. Every part stands on this one.

-- Lengths are checked in bytes as AMQP counts them, which is only the same thing when both sides speak UTF-8.
do $$
begin
    if current_setting('server_encoding') <> 'UTF8' then
        raise exception using
            errcode = 'SG100',
            message = format('the encoding of database "%s" is %s, and it must be UTF8', current_database(), current_setting('server_encoding')),
            hint = 'Create a database with ENCODING ''UTF8'' TEMPLATE template0.';
    end if;
end
$$;

create schema outbox;
create schema inbox;
create schema saga;
revoke all on schema outbox, inbox, saga from public;

-- Roles belong to the whole server: another database may have made them already, or is making them now. Only a role that is missing
-- is created, so an owner without CREATEROLE can migrate once an administrator has made them.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['sagapost_writer', 'sagapost_relay', 'sagapost_worker', 'sagapost_definer',
                                     'sagapost_participant', 'sagapost_operator', 'sagapost_reader'] loop
        continue when exists (select from pg_catalog.pg_roles where rolname = role_name);
        begin
            execute format('create role %I nologin', role_name);
        exception
            when duplicate_object or unique_violation then null;
        end;
    end loop;
end
$$;

grant usage on schema outbox, inbox, saga to
    sagapost_writer, sagapost_relay, sagapost_worker, sagapost_definer, sagapost_participant, sagapost_operator, sagapost_reader;

create table outbox.migration (
    number     integer primary key,
    name       text not null,
    part       text not null,
    checksum   text not null, -- SHA-256 of the file
    applied_at timestamptz not null default clock_timestamp(),
    applied_by text not null default current_user
);
comment on table outbox.migration is 'One row per migration that sagapost migrate has applied.';

-- Every program looks here before it starts.
grant select on outbox.migration to
    sagapost_writer, sagapost_relay, sagapost_worker, sagapost_definer, sagapost_participant, sagapost_operator, sagapost_reader;

-- A UUID of version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then version, variant and random bits. What follows the version
-- is taken from a random UUID of version 4, whose variant is the same.
-- A body in standard SQL: parsed once, and inlined where it is called. Put together as text it costs 0.1 us more than gen_random_uuid() itself;
-- the usual way with overlay() and set_bit() costs 1.9 us more.
create function outbox.uuid_v7() returns uuid
    language sql volatile parallel safe
    return (lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
            || substr(gen_random_uuid()::text, 16))::uuid;
comment on function outbox.uuid_v7() is 'A new UUID of version 7: its first 48 bits are the milliseconds since 1970.';

-- Below every UUIDv7 of this millisecond, above all earlier ones.
create function outbox.uuid_floor(at timestamptz) returns uuid
    language sql immutable strict parallel safe
    return rpad(lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0'), 32, '0')::uuid;

revoke all on function outbox.uuid_v7(), outbox.uuid_floor(timestamptz) from public;
grant execute on function outbox.uuid_v7() to sagapost_writer, sagapost_worker, sagapost_participant;
