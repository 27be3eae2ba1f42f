//! What is measured: a database with rows in it, and a server over it.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    postgres::Postgres,
    route::{RouteFile, Target},
    server::{self, Server},
};

pub(crate) struct World {
    // Dropped first: it is told of nothing when its database goes.
    pub(crate) server: Server,
    pub(crate) postgres: Postgres,
    pub(crate) target: Target,
    /// What requests choose from at random.
    pub(crate) choices: Vec<(String, Choice)>,
    /// The same, written out, and the key.
    values: BTreeMap<String, Vec<String>>,
    pub(crate) key: String,
    pub(crate) settings: Vec<(String, String)>,
}

/// Where the database is: what is here outlives a start of the system, so it is no file system in memory, as temporary directories may be.
const DISK: &str = "/var/tmp";

impl World {
    /// A database with this many issues, and as many signals.
    pub(crate) fn new(binary: &Path, issues: u32) -> Result<Self> {
        let postgres = Postgres::start(Path::new(DISK))?;
        let run = |arguments: &[&str]| {
            let mut command = server::program(binary, &postgres.url());
            command.args(arguments);
            server::output(command).with_context(|| format!("loop-http {}", arguments.join(" ")))
        };
        run(&["migrate"])?;
        let key = run(&["keys", "create", "--name", "load", "--role", "admin"])?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let settings = runtime.block_on(async {
            let client = postgres.connect().await?;
            client.batch_execute(&include_str!("seed.sql").replace("$issues", &issues.to_string())).await.context("seeding")?;
            client.batch_execute("VACUUM ANALYZE").await?;
            client.batch_execute("CHECKPOINT").await?;
            postgres.settings(&client).await
        })?;

        let ids = |letter: char, count: u32| Choice::Numbers { prefix: letter.to_string() + "00000", first: FIRST + 1, count };
        let choices = vec![
            ("issue".to_owned(), ids('i', issues)),
            ("signal".to_owned(), ids('s', issues)),
            ("project".to_owned(), ids('p', 10)),
            ("sentry".to_owned(), Choice::Numbers { prefix: String::new(), first: 4_000_000_000, count: 10_000 }),
            ("status".to_owned(), Choice::Words(["open", "backlog", "in_progress", "triage"].map(str::to_owned).to_vec())),
        ];
        let mut values: BTreeMap<_, _> = choices.iter().map(|(name, choice)| (name.clone(), choice.all())).collect();
        values.insert("key".to_owned(), vec![key.clone()]);
        let server = Server::start(binary, &postgres.url(), "GET /health", &key)?;
        let target = Target::new(server.address, routes(&values)?)?;
        Ok(Self { server, postgres, target, choices, values, key, settings })
    }

    /// How the server is asked.
    pub(crate) fn routes(&self) -> Result<RouteFile> {
        routes(&self.values)
    }
}

fn routes(values: &BTreeMap<String, Vec<String>>) -> Result<RouteFile> {
    let mut routes: RouteFile = serde_json::from_str(include_str!("routes.json"))?;
    routes.values.clone_from(values);
    Ok(routes)
}

/// The number in the ids of the seed, before the first.
const FIRST: u64 = 100_000_000_000_000_000;

/// The id of a row of the seed.
pub(crate) fn id(letter: char, number: u64) -> String {
    format!("{letter}00000{}", FIRST + number)
}

/// What a request takes one of.
#[derive(Clone)]
pub(crate) enum Choice {
    /// Numbers in a row behind a prefix.
    Numbers {
        prefix: String,
        first: u64,
        count: u32,
    },
    Words(Vec<String>),
}

impl Choice {
    fn all(&self) -> Vec<String> {
        match self {
            Self::Numbers { prefix, .. } => (self.first()..=self.last()).map(|number| format!("{prefix}{number}")).collect(),
            Self::Words(words) => words.clone(),
        }
    }

    /// Whether one of its numbers is written like this.
    pub(crate) fn has(&self, text: &str) -> bool {
        let Self::Numbers { prefix, .. } = self else { return false };
        text.strip_prefix(prefix.as_str())
            .and_then(|number| number.parse().ok())
            .is_some_and(|number| (self.first()..=self.last()).contains(&number))
    }

    pub(crate) fn words(&self) -> &[String] {
        if let Self::Words(words) = self { words } else { &[] }
    }

    /// The first of the numbers that it is chosen by.
    pub(crate) fn first(&self) -> u64 {
        if let Self::Numbers { first, .. } = self { *first } else { 1 }
    }

    /// The last of them.
    pub(crate) fn last(&self) -> u64 {
        match self {
            Self::Numbers { first, count, .. } => first + u64::from(*count) - 1,
            Self::Words(words) => words.len() as u64,
        }
    }
}
