-- Other sessions for a test: session_open('name') connects by dblink to this database; the others take the name.
create procedure session_open(name text) language plpgsql as $$
begin
    perform dblink_connect(name, format('host=%s port=%s dbname=%s user=%s application_name=%s',
                                        coalesce(host(inet_server_addr()), split_part(current_setting('unix_socket_directories'), ',', 1)),
                                        current_setting('port'), current_database(), session_user, name));
end
$$;

-- Sends a statement and does not wait for it; session_wait does, and gives the first row's only column.
create procedure session_send(name text, statement text) language plpgsql as $$
begin
    perform dblink_send_query(name, statement);
end
$$;
create function session_wait(name text) returns text language plpgsql as $$
declare
    answer text;
begin
    begin
        select value into answer from dblink_get_result(name) as t (value text);
    exception
        when others then
            perform from dblink_get_result(name, false) as t (value text); -- the end of the results
            raise;
    end;
    perform from dblink_get_result(name) as t (value text);
    return answer;
end
$$;

create function session_get(name text, statement text) returns text language plpgsql as $$
begin
    call session_send(name, statement);
    return session_wait(name);
end
$$;
create procedure session_do(name text, statement text) language plpgsql as $$
begin
    perform session_get(name, statement);
end
$$;

-- True as soon as the query is true, false when it was not within the limit. Each try sees what others have committed until then.
create function wait_until(query text, at_most interval default '20 s') returns boolean language plpgsql as $$
declare
    give_up_at timestamptz := clock_timestamp() + at_most;
    come_true  boolean;
begin
    loop
        execute 'select ' || query into come_true;
        if come_true then
            return true;
        elsif clock_timestamp() > give_up_at then
            return false;
        end if;
        perform pg_sleep(0.01);
    end loop;
end
$$;

-- Whether the session waits for a heavyweight lock.
create function session_is_waiting(name text) returns boolean language sql as $$
    select exists (select from pg_stat_activity where application_name = name and datname = current_database() and wait_event_type = 'Lock');
$$;
