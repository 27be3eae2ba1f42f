//! Two ways to the same end, side by side.

use std::{
    env, fmt, fs,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use criterion::{BatchSize, BenchmarkGroup, Criterion, measurement::WallTime};
use serde_json::json;
use tokio::runtime::{self, Runtime};

use crate::{Allocations, allocations};

/// How long a block of calls takes at least: long enough for the clock, and so short that what disturbs it seldom disturbs its neighbour.
const BLOCK: Duration = Duration::from_millis(1);

/// The fewest pairs of blocks that a ratio is made of.
const FEWEST: usize = 31;

/// A way to do something: what it is called, what makes its input, which is not measured, and what does it.
pub struct Way<S, R> {
    name: &'static str,
    input: S,
    run: R,
}

impl<I, O, S: Fn() -> I, R: AsyncFn(I) -> O> Way<S, R> {
    /// A way that takes an input.
    pub const fn new(name: &'static str, input: S, run: R) -> Self {
        Self { name, input, run }
    }

    fn inputs(&self, calls: usize) -> Vec<I> {
        (0..calls).map(|_| (self.input)()).collect()
    }

    /// How long that many calls take, one after the other.
    async fn block(&self, calls: usize) -> Duration {
        let inputs = self.inputs(calls);
        let begin = Instant::now();
        for input in inputs {
            black_box((self.run)(black_box(input)).await);
        }
        begin.elapsed()
    }

    /// What criterion measures by itself. Answers whether it was asked to.
    fn criterion(&self, group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime) -> bool {
        let mut chosen = false;
        group.bench_function(self.name, |b| {
            chosen = true;
            b.to_async(runtime).iter_batched(&self.input, |input| (self.run)(input), BatchSize::PerIteration);
        });
        chosen
    }

    fn allocations(&self, runtime: &Runtime, calls: usize) -> Allocations {
        allocations(self.inputs(calls), |input| drop(black_box(runtime.block_on((self.run)(input)))))
    }
}

/// The input of what takes none.
pub fn nothing() {}

/// Runs benches, and compares pairs of them.
pub struct Bench<'c> {
    criterion: &'c mut Criterion,
    /// One thread, so that what is measured waits for no other, and allocates nothing on another.
    pub runtime: Runtime,
}

impl<'c> Bench<'c> {
    /// Begins.
    pub fn new(criterion: &'c mut Criterion) -> Self {
        Self { criterion, runtime: runtime::Builder::new_current_thread().enable_all().build().unwrap() }
    }

    /// Whether what is no pair is to be measured: it is what was asked for, or nothing was.
    pub fn asks_for(&self, id: &str) -> bool {
        let filter = env::args().skip(1).find(|argument| !argument.starts_with('-'));
        filter.is_none_or(|filter| id.contains(&filter) || filter.contains(id))
    }

    /// Measures each way by itself, as criterion does, and then both in turn, which gives the ratio of the one to the other.
    pub fn pair<I, O, S, R, J, P, T, Q>(&mut self, id: &str, one: &Way<S, R>, other: &Way<T, Q>)
    where
        S: Fn() -> I,
        R: AsyncFn(I) -> O,
        T: Fn() -> J,
        Q: AsyncFn(J) -> P,
    {
        let mut group = group(self.criterion, id);
        let chosen = [one.criterion(&mut group, &self.runtime), other.criterion(&mut group, &self.runtime)];
        group.finish();
        if chosen != [false, false] && !is_test() {
            self.ratio(id, one, other);
        }
    }

    /// Measures the same call on each of several named things, and then each in turn with the first.
    pub fn each<'t, T, I, O>(
        &mut self,
        id: &str,
        things: &'t [(&'static str, T)],
        input: impl Fn(&'t T) -> I,
        call: impl AsyncFn(&'t T, I) -> O,
    ) {
        let (input, call) = (&input, &call);
        let way =
            |(name, thing): &'t (&'static str, T)| Way::new(name, move || input(thing), async move |input: I| call(thing, input).await);
        let ways: Vec<_> = things.iter().map(way).collect();
        let mut group = group(self.criterion, id);
        let chosen = ways.iter().filter(|way| way.criterion(&mut group, &self.runtime)).count();
        group.finish();
        if chosen > 0 && !is_test() {
            for way in &ways[1..] {
                self.ratio(id, way, &ways[0]);
            }
        }
    }

    fn ratio<I, O, S, R, J, P, T, Q>(&self, id: &str, one: &Way<S, R>, other: &Way<T, Q>)
    where
        S: Fn() -> I,
        R: AsyncFn(I) -> O,
        T: Fn() -> J,
        Q: AsyncFn(J) -> P,
    {
        let ratio = self.runtime.block_on(Ratio::measure(one, other));
        let calls = ratio.calls.min(50);
        let [mine, its] = [one.allocations(&self.runtime, calls), other.allocations(&self.runtime, calls)];
        println!("{id} {}/{} ratio {ratio}; {mine} beside {its} allocations", one.name, other.name);
        keep(id, [one.name, other.name], &ratio, [mine, its]);
    }
}

/// Keeps what was measured under `target/pairs`, from where `load report` takes it.
fn keep(id: &str, names: [&str; 2], ratio: &Ratio, allocations: [Allocations; 2]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pairs");
    let pair = json!({
        "id": id,
        "names": names,
        "estimate": ratio.estimate,
        "nanoseconds": ratio.times.map(|time| time.as_secs_f64() * 1e9),
        "allocations": allocations.map(|allocations| allocations.to_string()),
    });
    let file = directory.join(format!("{}.{}.json", id.replace('/', "."), names.join(".")));
    fs::create_dir_all(&directory).and_then(|()| fs::write(file, pair.to_string())).unwrap();
}

fn group<'c>(criterion: &'c mut Criterion, id: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(id);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

/// How long the one takes in proportion to the other.
struct Ratio {
    /// The median of the ratios of neighbouring blocks, between the bounds of its 95 % confidence interval.
    estimate: [f64; 3],
    /// How long a call of each takes at the median.
    times: [Duration; 2],
    /// How many calls a block has, and how many pairs of blocks there were.
    calls: usize,
    pairs: usize,
}

impl Ratio {
    /// Takes blocks of the one and the other in turn: what disturbs this machine for longer than a block disturbs both.
    async fn measure<I, O, S, R, J, P, T, Q>(one: &Way<S, R>, other: &Way<T, Q>) -> Self
    where
        S: Fn() -> I,
        R: AsyncFn(I) -> O,
        T: Fn() -> J,
        Q: AsyncFn(J) -> P,
    {
        let mut calls = 1;
        while calls < 1 << 16 && one.block(calls).await.min(other.block(calls).await) < BLOCK {
            calls *= 2;
        }
        let (mut ratios, mut ones, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let begin = Instant::now();
        while ratios.len() < FEWEST || begin.elapsed() < patience() {
            // The one that is first alternates, too.
            let (a, b) = if ratios.len() % 2 == 0 {
                let a = one.block(calls).await;
                (a, other.block(calls).await)
            } else {
                let b = other.block(calls).await;
                (one.block(calls).await, b)
            };
            ratios.push(a.as_secs_f64() / b.as_secs_f64());
            ones.push(a);
            others.push(b);
        }
        let pairs = ratios.len();
        let calls_in_block = u32::try_from(calls).unwrap();
        Self { estimate: interval(ratios), times: [ones, others].map(|times| median(times) / calls_in_block), calls, pairs }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, middle, high] = self.estimate;
        let [one, other] = self.times;
        write!(f, "{middle:.3} [{low:.3}, {high:.3}] of {} pairs of {} calls; {one:.1?} beside {other:.1?}", self.pairs, self.calls)
    }
}

/// The median with its 95 % confidence interval, by order statistics: nothing is assumed of how the values are distributed.
fn interval(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    let (middle, last) = (values.len() / 2, values.len() - 1);
    let reach = values.len().isqrt() * 98 / 100 + 1;
    [values[middle.saturating_sub(reach)], values[middle], values[(middle + reach).min(last)]]
}

/// The one in the middle.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// How long the ratio of a pair is measured: `LOOP_BENCH_SECONDS`.
fn patience() -> Duration {
    variable("LOOP_BENCH_SECONDS").map_or(Duration::from_secs(6), |seconds| Duration::from_secs_f64(seconds.parse().unwrap()))
}

/// Whether everything is only to be tried once, as by `cargo test` and `cargo bench -- --test`.
pub fn is_test() -> bool {
    env::args().any(|argument| argument == "--test") || !env::args().any(|argument| argument == "--bench")
}

/// A variable of the environment.
#[expect(clippy::disallowed_methods, reason = "benches are not configured through the server's configuration")]
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
