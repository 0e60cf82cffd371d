//! One layer alone: what the config files of any host say, and what is wrong with them, without a
//! connection to anything.
//!
//! `cargo run -p mcpool --example config_alone -- FILE…`

use mcpool_config::Loader;
use mcpool_core::Error;

/// What is read when no file is named.
const SAMPLE: &str = r#"{
    "mcpServers": {
        "files": { "command": "mcp-server-filesystem", "args": ["${HOME}/notes"] },
        "docs": { "url": "https://docs.example/mcp" },
        "typo": { "comand": "oops" }
    }
}"#;

fn main() -> Result<(), Error> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let loader = match files.is_empty() {
        true => Loader::new().with_text("sample.json", SAMPLE),
        false => files.into_iter().fold(Loader::new(), Loader::with_file),
    };
    let loaded = loader.load()?;
    for spec in &loaded.servers {
        println!("{}: {}", spec.name, spec.transport.as_str());
    }
    for problem in &loaded.problems {
        println!("{}", problem.render());
    }
    Ok(())
}
