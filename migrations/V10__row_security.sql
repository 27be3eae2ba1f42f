-- A second guard behind the statements' own conditions: with it, a statement that forgets the scope sees nothing of other projects.
--
-- A store that has it switched on says in each transaction which project it is bound to, in the setting loop.project: an id, or * for all.
-- The policies do nothing until loop_row_security(true) was called, and then hold for the owner of the tables, too.
CREATE FUNCTION loop_scope() RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    scope text := current_setting('loop.project', true);
BEGIN
    IF scope IS NULL OR scope = '' THEN
        RAISE insufficient_privilege USING CONSTRAINT = 'loop_scope', MESSAGE = 'it was not said which project''s rows may be seen';
    END IF;
    RETURN scope;
END
$$;

-- As sub-queries, so that the setting is read once in a statement and not once in a row. As a CASE, because the planner takes that for half of the
-- rows: an equality would be taken for very few, and a whole project be sorted where an index gives the order.
CREATE POLICY loop_scope ON projects USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE id = (SELECT loop_scope()) END);
CREATE POLICY loop_scope ON goals USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE project_id = (SELECT loop_scope()) END);
CREATE POLICY loop_scope ON issues USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE project_id = (SELECT loop_scope()) END);
CREATE POLICY loop_scope ON issue_events USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE project_id = (SELECT loop_scope()) END);
CREATE POLICY loop_scope ON signals USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE project_id = (SELECT loop_scope()) END);
CREATE POLICY loop_scope ON deliveries USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE project = (SELECT loop_scope()) END);
CREATE POLICY loop_scope ON fingerprints USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE project = (SELECT loop_scope()) END);
CREATE POLICY loop_scope ON prompt_templates USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE project_id = (SELECT loop_scope()) END);
CREATE POLICY loop_scope ON api_keys USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE project_id = (SELECT loop_scope()) END);
-- Whether an issue can be seen, also one that the same statement has just written: only what is volatile sees that.
CREATE FUNCTION loop_sees_issue(issue text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM issues AS i WHERE i.id = issue);
END
$$;

-- What belongs to an issue or a template is seen by whoever sees that.
CREATE POLICY loop_scope ON issue_labels
    USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE EXISTS (SELECT FROM issues AS i WHERE i.id = issue_id) END)
    WITH CHECK (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE loop_sees_issue(issue_id) END);
CREATE POLICY loop_scope ON comments
    USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE EXISTS (SELECT FROM issues AS i WHERE i.id = issue_id) END);
CREATE POLICY loop_scope ON issue_relations
    USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE EXISTS (SELECT FROM issues AS i WHERE i.id = issue_id)
                                      AND EXISTS (SELECT FROM issues AS i WHERE i.id = related_issue_id) END)
    WITH CHECK (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE loop_sees_issue(issue_id) AND loop_sees_issue(related_issue_id) END);
CREATE POLICY loop_scope ON prompt_versions
    USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE EXISTS (SELECT FROM prompt_templates AS t WHERE t.id = template_id) END);
CREATE POLICY loop_scope ON prompt_reviews
    USING (CASE WHEN (SELECT loop_scope()) = '*' THEN true ELSE EXISTS (SELECT FROM issues AS i WHERE i.id = issue_id)
                                      AND EXISTS (SELECT FROM prompt_versions AS v WHERE v.id = version_id) END);

-- The hierarchy is a rule over all projects: an issue with children elsewhere must not become a child. (A function's own SET of a parameter
-- that no module defines is for superusers.)
CREATE OR REPLACE FUNCTION issues_check_parent() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    parent issues%ROWTYPE;
    scope  text := current_setting('loop.project', true);
BEGIN
    PERFORM set_config('loop.project', '*', true);
    SELECT * INTO parent FROM issues WHERE id = NEW.parent_id FOR SHARE;
    IF parent.id IS NULL OR parent.deleted_at IS NOT NULL THEN
        RAISE foreign_key_violation USING CONSTRAINT = 'issues_parent_id_fkey', MESSAGE = 'the parent does not exist';
    END IF;
    IF EXISTS (SELECT FROM issues WHERE id = parent.parent_id AND deleted_at IS NULL) THEN
        RAISE check_violation USING CONSTRAINT = 'issues_parent_depth_check', MESSAGE = 'the parent has a parent itself';
    END IF;
    IF EXISTS (SELECT FROM issues WHERE parent_id = NEW.id AND deleted_at IS NULL) THEN
        RAISE check_violation USING CONSTRAINT = 'issues_parent_children_check', MESSAGE = 'the issue has children';
    END IF;
    PERFORM set_config('loop.project', scope, true);
    RETURN NEW;
END
$$;

-- Switches the guard on or off for every table that has the policy.
CREATE FUNCTION loop_row_security(guard boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    guarded regclass;
BEGIN
    FOR guarded IN
        SELECT c.oid FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
        WHERE p.polname = 'loop_scope' AND c.relnamespace = quote_ident(current_schema())::regnamespace
          AND (c.relrowsecurity, c.relforcerowsecurity) <> (guard, guard)
        ORDER BY c.relname
    LOOP
        EXECUTE format('ALTER TABLE %s %s ROW LEVEL SECURITY', guarded, CASE WHEN guard THEN 'ENABLE' ELSE 'DISABLE' END);
        EXECUTE format('ALTER TABLE %s %s ROW LEVEL SECURITY', guarded, CASE WHEN guard THEN 'FORCE' ELSE 'NO FORCE' END);
    END LOOP;
END
$$;
