//! A scriptable MCP server over stdio. Its flags are the fields of `mcpool_testkit::Behavior`.
use mcpool_testkit::{Behavior, fixtures::stdio};

fn main() {
    match Behavior::from_args(std::env::args().skip(1)) {
        Ok(behavior) => stdio::run(behavior),
        Err(problem) => {
            eprintln!("mcpool-fixture: {problem}");
            std::process::exit(2);
        }
    }
}
