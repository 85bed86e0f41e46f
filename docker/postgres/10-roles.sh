#!/bin/sh
# Makes the two roles of the SDK, once, when the data folder is made:
# motadata_owner owns the tables and runs migrations; motadata_app is what the SDK runs as. Neither is a
# superuser, and motadata_app owns nothing, so row-level security holds for it.
set -eu

# The passwords are read from the environment by psql: they are in no command line and in no log.
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner_password MOTADATA_OWNER_PASSWORD
\getenv runtime_password MOTADATA_RUNTIME_PASSWORD
create role motadata_owner login nosuperuser nobypassrls nocreatedb nocreaterole
  password :'owner_password';
create role motadata_app login nosuperuser nobypassrls nocreatedb nocreaterole
  password :'runtime_password';
create database motadata owner motadata_owner encoding 'UTF8' template template0;
revoke all on database motadata from public;
grant connect on database motadata to motadata_app;
\connect motadata
revoke all on schema public from public;
-- Only a superuser may install it; the migrations find it in place.
create extension if not exists vector;
SQL
