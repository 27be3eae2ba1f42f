//! Verifying a delivery, beside the bare HMAC over the same bytes, and making a signal of it.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::hint::black_box;

use benches::{SECRET, github_body, github_headers, hmac};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use loop_core::webhook::{GithubVerifier, Secrets, github_signal};

fn webhook(c: &mut Criterion) {
    let body = github_body(10 * 1024);
    let headers = github_headers(&body);
    let verifier = GithubVerifier::new(Secrets::new([SECRET]).unwrap());
    assert_eq!(verifier.verify(&headers, &body), Ok(()));

    let mut group = c.benchmark_group("webhook");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("verify/github-10KB", |b| b.iter(|| verifier.verify(black_box(&headers), black_box(&body))));
    group.bench_function("bare-hmac/10KB", |b| b.iter(|| hmac(black_box(&body))));
    group.bench_function("map/github-10KB", |b| b.iter(|| github_signal(black_box(&headers), black_box(&body))));
    group.finish();
}

criterion_group!(benches, webhook);
criterion_main!(benches);
