-- The ring's leaves that hold rows, do not take new ones, and are not kept for a replay. Plan: the catalogue.
select slot from outbox.leaf where not current and not kept and bytes > 0;
