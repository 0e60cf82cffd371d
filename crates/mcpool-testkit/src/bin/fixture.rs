//! A scriptable MCP server. Its flags are the fields of `mcpool_testkit::Behavior`. It is served
//! over stdio; with `--listen` in front over Streamable HTTP, at the URL that it prints.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use mcpool_testkit::{
    Behavior,
    fixtures::{http::HttpFixture, stdio},
};

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let listens = args.first().is_some_and(|flag| flag == "--listen");
    if listens {
        args.remove(0);
    }
    match Behavior::from_args(args) {
        Ok(behavior) if listens => listen(behavior),
        Ok(behavior) => stdio::run(behavior),
        Err(problem) => {
            eprintln!("mcpool-fixture: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Serves until standard input ends.
fn listen(behavior: Behavior) -> ExitCode {
    let server = match HttpFixture::start(behavior) {
        Ok(server) => server,
        Err(problem) => {
            eprintln!("mcpool-fixture: {problem}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", server.url());
    let _ = std::io::stdout().flush();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}
