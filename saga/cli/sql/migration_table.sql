-- Whether anything was ever migrated here. No parameters. Plan: a catalogue look-up.
select to_regclass('outbox.migration') is not null
