-- Records one applied migration, in its own transaction. $1 number, $2 name, $3 part, $4 checksum. Plan: one insert.
insert into outbox.migration (number, name, part, checksum) values ($1, $2, $3, $4)
