-- The ring's leaves that hold rows and do not take new ones. Plan: the catalogue.
select slot from outbox.leaf where not current and bytes > 0;
