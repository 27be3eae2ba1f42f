//! Whatever arrives and whatever is done to issues meanwhile, signals gather where they should, and are counted.

use std::collections::BTreeMap;

use loop_core::{DeliveryKey, IssueId, IssuePatch, IssuePriority, IssueStatus, LoopStore, NewSignal, Patch, ProjectId, Severity, SignalId};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::check_store;
use crate::{
    grouping::consistent,
    support::{new_signal, project, valid},
};

/// A signal: its fingerprint, if it has one, its project, if it is delivered to one, and how bad it is.
type Sent = (Option<u8>, usize, Severity);

#[derive(Debug, Clone)]
enum Step {
    Ingest(Vec<Sent>),
    Redeliver(Index),
    Status(Index, IssueStatus),
    Priority(Index, IssuePriority),
    Move(Index, usize),
    Delete(Index),
}

/// No project, and two.
const PROJECTS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let signal = (prop::option::weighted(0.9, 0_u8..2), 0..PROJECTS, proptest::sample::select(Severity::ALL));
    let issue = any::<Index>;
    prop_oneof![
        6 => vec(signal, 1..4).prop_map(Step::Ingest),
        1 => issue().prop_map(Step::Redeliver),
        3 => (issue(), proptest::sample::select(IssueStatus::ALL)).prop_map(|(issue, status)| Step::Status(issue, status)),
        1 => (issue(), proptest::sample::select(IssuePriority::ALL)).prop_map(|(issue, priority)| Step::Priority(issue, priority)),
        1 => (issue(), 0..PROJECTS).prop_map(|(issue, project)| Step::Move(issue, project)),
        1 => issue().prop_map(Step::Delete),
    ]
}

/// An issue as it should be.
#[derive(Debug, Clone, PartialEq)]
struct Opened {
    project: usize,
    signals: i32,
    severity: Severity,
    priority: IssuePriority,
    completed: bool,
    deleted: bool,
}

impl Opened {
    fn takes(&self, delivered_to: usize) -> bool {
        !self.completed && !self.deleted && (delivered_to == 0 || delivered_to == self.project)
    }
}

#[derive(Default)]
struct Model {
    issues: BTreeMap<IssueId, Opened>,
    /// Where signals of a fingerprint that are delivered to a project went last.
    last: BTreeMap<(u8, usize), IssueId>,
    taken_in: Vec<(NewSignal, SignalId)>,
}

impl Model {
    fn issue(&self, index: Index) -> Option<IssueId> {
        let issues: Vec<_> = self.issues.iter().filter(|(_, issue)| !issue.deleted).map(|(id, _)| id).collect();
        (!issues.is_empty()).then(|| issues[index.index(issues.len())].clone())
    }

    /// What should become of these signals, which went to these issues.
    fn ingest(&mut self, sent: &[Sent], went: &[IssueId]) {
        let mut groups: BTreeMap<(u8, usize), Vec<usize>> = BTreeMap::new();
        for (place, (fingerprint, project, severity)) in sent.iter().enumerate() {
            match fingerprint {
                Some(fingerprint) => groups.entry((*fingerprint, *project)).or_default().push(place),
                None => self.open(&went[place], *project, 1, *severity),
            }
        }
        for ((fingerprint, project), places) in groups {
            let severity = places.iter().map(|place| sent[*place].2).max().unwrap();
            let signals = i32::try_from(places.len()).unwrap();
            let issue = &went[places[0]];
            assert!(places.iter().all(|place| &went[*place] == issue), "one group went to several issues");
            let last = self.last.get(&(fingerprint, project)).filter(|last| self.issues[*last].takes(project)).cloned();
            match last {
                Some(last) => {
                    assert_eq!(issue, &last, "it went elsewhere than before");
                    let known = self.issues.get_mut(&last).unwrap();
                    known.signals += signals;
                    if severity > known.severity {
                        known.severity = severity;
                        // The most urgent is the least.
                        known.priority = known.priority.min(severity.into());
                    }
                }
                None => self.open(issue, project, signals, severity),
            }
            self.last.insert((fingerprint, project), issue.clone());
        }
    }

    fn open(&mut self, issue: &IssueId, project: usize, signals: i32, severity: Severity) {
        let new = Opened { project, signals, severity, priority: severity.into(), completed: false, deleted: false };
        assert_eq!(self.issues.insert(issue.clone(), new), None, "it was there already");
    }
}

async fn run(store: &LoopStore, projects: &[Option<ProjectId>; PROJECTS], steps: Vec<Step>) {
    // Nothing of the cases before is of this source.
    let source = IssueId::new().to_string();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Ingest(sent) => {
                let new = sent.iter().map(|(fingerprint, project, severity)| NewSignal {
                    severity: *severity,
                    project_id: projects[*project].clone(),
                    fingerprint: fingerprint.map(|fingerprint| valid(&fingerprint.to_string())),
                    delivery: Some(DeliveryKey::named(IssueId::new().as_str())),
                    ..new_signal(&source)
                });
                let new: Vec<_> = new.collect();
                let done = store.signals().ingest_batch(new.clone()).await.unwrap();
                let went: Vec<_> = done.iter().map(|done| done.issue.id.clone()).collect();
                model.ingest(&sent, &went);
                for (new, done) in new.into_iter().zip(done) {
                    assert_eq!(done.signal.project_id, projects[model.issues[&done.issue.id].project]);
                    model.taken_in.push((new, done.signal.id));
                }
            }
            Step::Redeliver(index) if !model.taken_in.is_empty() => {
                let (new, id) = &model.taken_in[index.index(model.taken_in.len())];
                let done = store.signals().ingest(new.clone()).await.unwrap();
                assert!(done.redelivered && &done.signal.id == id);
            }
            Step::Status(index, status) => {
                let Some(id) = model.issue(index) else { continue };
                store.issues().update(&id, IssuePatch { status: Some(status), ..IssuePatch::default() }).await.unwrap();
                model.issues.get_mut(&id).unwrap().completed = status.is_completed();
            }
            Step::Priority(index, priority) => {
                let Some(id) = model.issue(index) else { continue };
                store.issues().update(&id, IssuePatch { priority: Some(priority), ..IssuePatch::default() }).await.unwrap();
                model.issues.get_mut(&id).unwrap().priority = priority;
            }
            Step::Move(index, project) => {
                let Some(id) = model.issue(index) else { continue };
                let patch = projects[project].clone().map_or(Patch::Clear, Patch::Set);
                store.issues().update(&id, IssuePatch { project_id: patch, ..IssuePatch::default() }).await.unwrap();
                model.issues.get_mut(&id).unwrap().project = project;
            }
            Step::Delete(index) => {
                let Some(id) = model.issue(index) else { continue };
                store.issues().delete(&id).await.unwrap();
                model.issues.get_mut(&id).unwrap().deleted = true;
            }
            Step::Redeliver(_) => {}
        }
    }
    for (id, expected) in model.issues.iter().filter(|(_, issue)| !issue.deleted) {
        let issue = store.issues().get(id).await.unwrap();
        let stored = Opened {
            project: projects.iter().position(|project| *project == issue.project_id).unwrap(),
            signals: issue.signal_count,
            severity: issue.signal_severity.unwrap(),
            priority: issue.priority,
            completed: issue.completed_at.is_some(),
            deleted: false,
        };
        assert_eq!(&stored, expected);
    }
    consistent(store).await;
}

#[test]
fn signals_gather_where_they_should() {
    check_store(60, &vec(step(), 1..25), async |store, steps| {
        let projects = [None, Some(project(store, "Shop").await.id), Some(project(store, "Blog").await.id)];
        run(store, &projects, steps).await;
    });
}
