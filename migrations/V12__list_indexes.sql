-- The indexes of lists over all projects, with a condition that always holds and that only those lists say: so a list within a project is by the
-- index of its project, whatever the planner believes of how many issues that has. In the order of all projects, a list of one that has few, or none,
-- walks all issues there are.
DROP INDEX issues_created_at_idx;
CREATE INDEX issues_created_at_idx ON issues (created_at DESC, id DESC) WHERE deleted_at IS NULL AND number > 0;
DROP INDEX issues_status_created_at_idx;
CREATE INDEX issues_status_created_at_idx ON issues (status, created_at DESC, id DESC) WHERE deleted_at IS NULL AND number > 0;

-- Of a project that the planner is not shown, it is to believe that it has a tenth of all issues that are of projects. It would take the mean, which is
-- few where there are many projects; and few issues it would rather sort than take in order, also where they are not few.
ALTER TABLE issues ALTER COLUMN project_id SET (n_distinct = 10);
