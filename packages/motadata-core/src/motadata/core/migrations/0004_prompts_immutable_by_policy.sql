-- A policy keeps versions of prompts from changing, as the trigger did: Citus distributes tables with
-- policies, and refuses triggers unless it is told to trust them.
drop trigger prompt_template_is_immutable on motadata.prompt_template;
drop function motadata.refuse_change();

create policy prompt_template_never_changes on motadata.prompt_template
  as restrictive for update to public using (true) with check (false);
