-- What tenants have spent of their budgets, and what instances hold of what is left.

-- One row a budget and period; locked by whoever takes from it.
create table motadata.budget_period (
  tenant_id text not null,
  budget text collate "C" not null,
  starts_on date not null,
  soft_reached_at timestamptz,
  primary key (tenant_id, budget, starts_on)
);
select motadata.isolate('motadata.budget_period');
comment on column motadata.budget_period.soft_reached_at is
  'When the soft limit was first seen to be reached; who sets it tells the platform.';

-- One row an instance that spends: what it spent in all, and what it may still spend by itself.
create table motadata.budget_share (
  tenant_id text not null,
  budget text collate "C" not null,
  starts_on date not null,
  share_id uuid not null,
  spent_usd numeric not null default 0,
  spent_tokens bigint not null default 0,
  held_usd numeric not null default 0,
  held_tokens bigint not null default 0,
  held_until timestamptz not null,
  primary key (tenant_id, budget, starts_on, share_id),
  foreign key (tenant_id, budget, starts_on) references motadata.budget_period on delete cascade
);
select motadata.isolate('motadata.budget_share');
comment on column motadata.budget_share.spent_usd is
  'A running total, so that reporting it twice changes nothing.';
comment on column motadata.budget_share.held_until is
  'After this, what is held is free again: the instance that held it is gone.';
