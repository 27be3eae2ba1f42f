//! `pgbench` with the statements that a request leads to, as the server sends them: what the database alone comes to on this machine.
//!
//! They are read from PostgreSQL's own log of one request. Where that has an id of the seed, pgbench takes one at random, as requests do; where it has
//! a fresh one, pgbench makes one up.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

use crate::{
    generator,
    postgres::Postgres,
    route::Route,
    table::median,
    world::{Choice, World},
};

/// A script, and the values of its variables.
pub(crate) struct Pgbench {
    /// How many statements there are.
    pub(crate) statements: usize,
    script: PathBuf,
    variables: Vec<String>,
}

/// A line of the log.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    message: String,
    detail: Option<String>,
}

impl Pgbench {
    /// The script of a route. None for one that asks nothing of the database.
    pub(crate) fn of(world: &World, name: &str, route: &Route, scratch: &Path) -> Result<Option<Self>> {
        let statements = statements(world, route)?;
        if statements.is_empty() {
            return Ok(None);
        }
        let mut script = Script::default();
        // An id is one of the seed's wherever it is, but a word may stand there for itself.
        let may_vary = |(name, choice): &&(String, Choice)| choice.words().is_empty() || route.names(name);
        let choices: Vec<_> = world.choices.iter().filter(may_vary).cloned().collect();
        let statements: Vec<_> = statements.iter().map(|(sql, parameters)| script.statement(sql, parameters, &choices)).collect();
        let mut text = String::new();
        let _ = writeln!(text, "\\set fresh random(100000000000000000, 999999999999999999)");
        for (name, choice) in &choices {
            let _ = writeln!(text, "\\set {name} random({}, {})", choice.first(), choice.last());
        }
        // Where a key is looked up, that is waited for. All else goes together.
        let looked_up = usize::from(statements[0].starts_with("-- api_keys.authenticate"));
        let together = statements.len() - looked_up > 1;
        for (place, statement) in statements.iter().enumerate() {
            if together && place == looked_up {
                text.push_str("\\startpipeline\n");
            }
            let _ = writeln!(text, "{statement};");
        }
        if together {
            text.push_str("\\endpipeline\n");
        }
        let file = scratch.join(format!("{name}.sql"));
        fs::write(&file, text)?;
        Ok(Some(Self { statements: statements.len(), script: file, variables: script.variables }))
    }

    /// The transactions a second that it comes to, once each of its connections has been opened and has planned the statements, which a server
    /// with a pool did long ago.
    pub(crate) fn run(&self, postgres: &Postgres, connections: usize, duration: Duration) -> Result<f64> {
        let seconds = usize::try_from(duration.as_secs())?;
        // What is shorter than a second is only to see that it works.
        let (warm_up, seconds) = if seconds == 0 { (0, 1) } else { (2 + connections / 32, seconds) };
        let mut pgbench = postgres.program("pgbench");
        pgbench.args(["-M", "prepared", "-n", "-P", "1", "-c", &connections.to_string()]);
        pgbench.args(["-T", &(warm_up + seconds).to_string(), "-f"]).arg(&self.script);
        for variable in &self.variables {
            pgbench.args(["-D", variable]);
        }
        let output = pgbench.arg("postgres").output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && !text.contains("aborted"), "pgbench with {}: {text}", self.script.display());
        // progress: 1.0 s, 4890.9 tps, lat 3.271 ms stddev 1.204, 0 failed
        let rates = text.lines().filter_map(|line| line.strip_prefix("progress: ")?.split(' ').nth(2)?.parse().ok());
        let mut rates: Vec<f64> = rates.collect();
        ensure!(rates.len() >= seconds, "pgbench said too little: {text}");
        Ok(median(&rates.split_off(rates.len() - seconds)))
    }
}

/// The statements of one request, with their parameters: of one right behind another, as they come under load. A key that was just looked up
/// may be believed then.
fn statements(world: &World, route: &Route) -> Result<Vec<(String, Vec<Option<String>>)>> {
    let execute = |statements: &[&str]| {
        let mut psql = world.postgres.program("psql");
        let output = psql.arg("-q").args(statements.iter().flat_map(|sql| ["-c", sql])).output()?;
        ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let set = |what: &str, wait: u64| {
        execute(&[&format!("ALTER SYSTEM SET log_statement = '{what}'"), "SELECT pg_reload_conf()"])?;
        // Every process of the server reads it on its own.
        thread::sleep(Duration::from_millis(wait));
        anyhow::Ok(())
    };
    let ask = || {
        generator::ask_once(&world.target, route)?;
        // Another process writes the log, in the order of what it is told: once this is there, the request is.
        let marker = format!("SELECT 'marker {}'", fastrand::u64(..));
        execute(&[&marker])?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            let text = world.postgres.log()?;
            if text.ends_with('\n') && text.contains(&marker) {
                return Ok(text);
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("PostgreSQL's log says nothing of a request")
    };
    set("all", 300)?;
    let begin = ask()?.len();
    let text = ask()?;
    set("none", 100)?;
    let mut statements = Vec::new();
    for line in text[begin..].lines() {
        let line: Line = serde_json::from_str(line)?;
        let executed = line.message.strip_prefix("execute ").and_then(|rest| rest.split_once(": ")).map(|(_, sql)| sql);
        // A key is marked as used once a minute, which is no request's own.
        if let Some(sql) = executed.filter(|sql| !sql.starts_with("-- api_keys.touch")) {
            statements.push((sql.to_owned(), parameters(line.detail.as_deref().unwrap_or_default())));
        }
    }
    Ok(statements)
}

/// The values in `parameters: $1 = NULL, $2 = 'it''s'`.
fn parameters(detail: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let mut rest = detail;
    while let Some((_, value)) = rest.split_once(" = ") {
        let Some(mut quoted) = value.strip_prefix('\'') else {
            values.push(None);
            rest = value;
            continue;
        };
        let mut text = String::new();
        while let Some((part, behind)) = quoted.split_once('\'') {
            text.push_str(part);
            quoted = behind;
            match behind.strip_prefix('\'') {
                Some(behind) => quoted = behind,
                None => break,
            }
            text.push('\'');
        }
        values.push(Some(text));
        rest = quoted;
    }
    values
}

#[derive(Default)]
struct Script {
    /// `name=value`, for what is the same in every transaction.
    variables: Vec<String>,
    /// The ids that were made for the request, each of which is another one in every transaction.
    fresh: Vec<String>,
}

impl Script {
    fn statement(&mut self, sql: &str, parameters: &[Option<String>], choices: &[(String, Choice)]) -> String {
        let mut sql = sql.trim().to_owned();
        // From the last, since `$1` is the beginning of `$12`.
        for (place, value) in parameters.iter().enumerate().rev() {
            let value = value.as_ref().map_or_else(|| "NULL".to_owned(), |value| self.value(value, choices));
            sql = sql.replace(&format!("${}", place + 1), &value);
        }
        sql
    }

    fn value(&mut self, value: &str, choices: &[(String, Choice)]) -> String {
        // Who acts, which is the same every time.
        if value.starts_with("key:") {
            return self.variable(value);
        }
        if let Some((name, Choice::Words(words))) = choices.iter().find(|(_, choice)| choice.words().iter().any(|word| word == value)) {
            return format!("(ARRAY['{}'])[:{name}]", words.join("','"));
        }
        let (mut parts, mut fixed, mut moving) = (Vec::new(), String::new(), false);
        for word in value.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
            let (word, end) = word.split_at(word.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric()).len());
            let chosen = choices.iter().find(|(_, choice)| choice.has(word)).map(|(name, choice)| match choice {
                Choice::Numbers { prefix, .. } => format!("'{prefix}' || :{name}::text"),
                Choice::Words(_) => unreachable!("it has no numbers"),
            });
            match chosen.or_else(|| self.fresh(word)) {
                Some(part) => {
                    if !fixed.is_empty() {
                        parts.push(format!("{}::text", self.variable(&std::mem::take(&mut fixed))));
                    }
                    parts.push(part);
                    moving = true;
                }
                None => fixed.push_str(word),
            }
            fixed.push_str(end);
        }
        if !moving {
            return self.variable(value);
        }
        if !fixed.is_empty() {
            parts.push(format!("{}::text", self.variable(&fixed)));
        }
        format!("({})", parts.join(" || "))
    }

    /// What stands for a fresh id: 24 letters and digits, the first a letter.
    fn fresh(&mut self, word: &str) -> Option<String> {
        let is_id = word.len() == 24
            && word.starts_with(|first: char| first.is_ascii_lowercase())
            && !word.bytes().any(|byte| byte.is_ascii_uppercase());
        if !is_id {
            return None;
        }
        let place = self.fresh.iter().position(|known| known == word).unwrap_or_else(|| {
            self.fresh.push(word.to_owned());
            self.fresh.len() - 1
        });
        Some(format!("'u{place:05}' || :fresh::text"))
    }

    fn variable(&mut self, value: &str) -> String {
        let name = format!("v{}", self.variables.len());
        self.variables.push(format!("{name}={value}"));
        format!(":{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_the_log_writes_them() {
        let detail = "parameters: $1 = NULL, $2 = 'it''s', $3 = '', $4 = '{\"a = ''b''\"}', $5 = NULL";
        let expected = [None, Some("it's"), Some(""), Some("{\"a = 'b'\"}"), None].map(|value| value.map(str::to_owned));
        assert_eq!(parameters(detail), expected);
        assert!(parameters("").is_empty());
    }

    #[test]
    fn what_differs_between_requests_differs_between_transactions() {
        let choices = vec![
            ("issue".to_owned(), Choice::Numbers { prefix: "i".to_owned(), first: 10, count: 5 }),
            ("status".to_owned(), Choice::Words(vec!["open".to_owned(), "triage".to_owned()])),
        ];
        let mut script = Script::default();
        let mut fill = |value: &str| script.statement("SELECT $1", &[Some(value.to_owned())], &choices);
        assert_eq!(fill("i14"), "SELECT ('i' || :issue::text)");
        assert_eq!(fill("open"), "SELECT (ARRAY['open','triage'])[:status]");
        assert_eq!(fill("i15"), "SELECT :v0");
        assert_eq!(fill("{abcdefghijklmnopqrstuvwx}"), "SELECT (:v1::text || 'u00000' || :fresh::text || :v2::text)");
        assert_eq!(fill("abcdefghijklmnopqrstuvwx"), "SELECT ('u00000' || :fresh::text)");
        assert_eq!(script.variables, ["v0=i15", "v1={", "v2=}"]);
        let twelve: Vec<_> = (1..=12).map(|_| None).collect();
        assert_eq!(script.statement("SELECT $1, $12", &twelve, &choices), "SELECT NULL, NULL");
    }
}
