//! SECURITY.md names the tests that hold its promises: they are there.

use std::path::Path;

#[test]
fn every_promise_is_held_by_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let security = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let promises: Vec<_> = security.lines().filter(|line| line.starts_with("| ") && line.contains("/tests/it/")).collect();
    assert!(promises.len() > 20, "the table was not found");
    for promise in promises {
        for named in promise.split('`').filter(|word| word.contains(".rs::")) {
            let (file, test) = named.split_once("::").unwrap();
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{named}: {error}"));
            let place = source.find(&format!("fn {test}(")).unwrap_or_else(|| panic!("{named} is not there"));
            assert!(source[..place].rsplit("\n\n").next().unwrap().contains("test"), "{named} is no test");
        }
    }
}
