-- The indexes of lists over all projects, with a condition that always holds and that only those lists say: so a list within a project is by the
-- index of its project, whatever the planner believes of how many issues that has. In the order of all projects, a list of one that has few, or none,
-- walks all issues there are.
--
-- A build from before this does not say the condition: until the last one is gone, its lists over all projects sort all issues.
ALTER TABLE issues ADD CONSTRAINT issues_number_check CHECK (number > 0);
DROP INDEX issues_created_at_idx;
CREATE INDEX issues_created_at_idx ON issues (created_at DESC, id DESC) WHERE deleted_at IS NULL AND number > 0;
DROP INDEX issues_status_created_at_idx;
CREATE INDEX issues_status_created_at_idx ON issues (status, created_at DESC, id DESC) WHERE deleted_at IS NULL AND number > 0;
