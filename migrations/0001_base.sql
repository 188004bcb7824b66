-- part: base
-- Schemas, roles and the record of what was applied. Every part stands on this one.
create schema outbox;
create schema inbox;
create schema saga;
revoke all on schema outbox, inbox, saga from public;

-- Roles belong to the whole server, so another database may have made them already.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['sagapost_writer', 'sagapost_relay', 'sagapost_worker', 'sagapost_definer',
                                     'sagapost_participant', 'sagapost_operator', 'sagapost_reader'] loop
        begin
            execute format('create role %I nologin', role_name);
        exception
            when duplicate_object or unique_violation then null;
        end;
    end loop;
end
$$;

create table outbox.migration (
    number     integer primary key,
    name       text not null,
    part       text not null,
    checksum   text not null, -- SHA-256 of the file
    applied_at timestamptz not null default clock_timestamp(),
    applied_by text not null default current_user
);
comment on table outbox.migration is 'One row per migration that sagapost migrate has applied.';
