//! The migrations are embedded by a macro that does not notice a new file.
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
