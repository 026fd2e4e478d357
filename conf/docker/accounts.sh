# The MySQL image reads this file when the image makes a data folder: the accounts of
# docs/operations/install.md, an account for you, and a schema that is the same at both sites.
#
# Passwords come from the environment and go to the client by standard input, so no command line
# shows a password. `scripts/docker-env.sh` makes passwords of letters and digits: no quoting.
docker_process_sql <<SQL
SET SESSION sql_log_bin = 0;

CREATE USER 'drc_source'@'%' IDENTIFIED BY '${DRC_SOURCE_PASSWORD:?}';
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'drc_source'@'%';
GRANT SELECT ON drc.* TO 'drc_source'@'%';
GRANT SELECT ON shop.* TO 'drc_source'@'%';

CREATE USER 'drc_applier'@'%' IDENTIFIED BY '${DRC_APPLIER_PASSWORD:?}';
GRANT REPLICATION CLIENT, REPLICATION_APPLIER ON *.* TO 'drc_applier'@'%';
GRANT SELECT, INSERT, UPDATE ON drc.* TO 'drc_applier'@'%';
GRANT SELECT ON performance_schema.* TO 'drc_applier'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO 'drc_applier'@'%';
GRANT CREATE, ALTER, DROP, INDEX, REFERENCES ON shop.* TO 'drc_applier'@'%';
GRANT TRANSACTION_GTID_TAG ON *.* TO 'drc_applier'@'%';

CREATE USER 'drc_operator'@'%' IDENTIFIED BY '${DRC_OPERATOR_PASSWORD:?}';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX ON drc.* TO 'drc_operator'@'%';

CREATE DATABASE shop;
CREATE USER 'app'@'%' IDENTIFIED BY '${APP_PASSWORD:?}';
GRANT ALL ON shop.* TO 'app'@'%';
SQL
