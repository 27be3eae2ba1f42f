//! Verifying a delivery, beside the bare HMAC over the same bytes; making a signal of it, beside reading it as JSON; and how far this build's
//! SHA-256 is from the fastest there is.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::hint::black_box;

use benches::{Bench, Delivery, Way, nothing};
use criterion::{Criterion, criterion_group, criterion_main};
use loop_core::webhook::{GithubVerifier, PosthogVerifier, Secrets, SentryVerifier, github_signal, posthog_signal, sentry_signal};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const SIZES: [(usize, &str); 3] = [(1 << 10, "1KB"), (10 << 10, "10KB"), (1 << 20, "1MB")];

fn verifying(bench: &mut Bench<'_>, id: &str, delivery: &Delivery, verify: impl Fn(&Delivery) -> bool) {
    assert!(verify(delivery));
    bench.pair(
        id,
        &Way::new("verifier", nothing, async |()| verify(black_box(delivery))),
        &Way::new("hmac", nothing, async |()| black_box(delivery).hmac()),
    );
}

fn mapping<T, E>(bench: &mut Bench<'_>, id: &str, delivery: &Delivery, map: impl Fn(&Delivery) -> Result<T, E>) {
    bench.pair(
        id,
        &Way::new("signal", nothing, async |()| map(black_box(delivery)).ok().unwrap()),
        &Way::new("json", nothing, async |()| serde_json::from_slice::<Value>(black_box(&delivery.body)).unwrap()),
    );
}

fn webhook(c: &mut Criterion) {
    let bench = &mut Bench::new(c);
    #[cfg(target_arch = "x86_64")]
    println!("this processor has instructions for SHA-256: {}", std::arch::is_x86_feature_detected!("sha"));
    let github = GithubVerifier::new(Secrets::new([Delivery::SECRET]).unwrap());
    let sentry = SentryVerifier::new(Secrets::new([Delivery::SECRET]).unwrap());
    let posthog = PosthogVerifier::new(Secrets::new([Delivery::KEY]).unwrap()).unwrap();
    for (bytes, size) in SIZES {
        let deliveries = [Delivery::of_github(bytes), Delivery::of_sentry(bytes), Delivery::of_posthog(bytes)];
        let [from_github, from_sentry, from_posthog] = &deliveries;
        let id = |operation: &str| format!("webhook/{operation}_{size}");
        verifying(bench, &id("verify_github"), from_github, |it| github.verify(&it.headers, &it.body).is_ok());
        verifying(bench, &id("verify_sentry"), from_sentry, |it| sentry.verify_hook(&it.headers, &it.body).is_ok());
        verifying(bench, &id("verify_posthog"), from_posthog, |it| posthog.verify_at(&it.headers, None, &it.body, it.sent).is_ok());
        mapping(bench, &id("map_github"), from_github, |it| github_signal(&it.headers, &it.body));
        mapping(bench, &id("map_sentry"), from_sentry, |it| sentry_signal(&it.headers, &it.body));
        mapping(bench, &id("map_posthog"), from_posthog, |it| posthog_signal(&it.headers, &it.body));
        let body = &from_github.body;
        bench.pair(
            &id("sha256"),
            &Way::new("sha2", nothing, async |()| Sha256::digest(black_box(body))),
            &Way::new("ring", nothing, async |()| ring::digest::digest(&ring::digest::SHA256, black_box(body))),
        );
    }
}

criterion_group!(benches, webhook);
criterion_main!(benches);
