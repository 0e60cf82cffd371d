//! From a spec to a command that can be run: the environment, the program's path, and the
//! errors for what cannot work. It starts nothing.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
};

use mcpool_core::{Error, ErrorKind, Result, StdioSpec};

/// The variable that marks every process of a server, so that one that left the process group
/// is found.
pub(crate) const MARKER: &str = "MCPOOL_SERVER_ID";

/// A command that is ready to run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The absolute path of the program.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// The whole environment.
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) cwd: Option<PathBuf>,
}

impl Plan {
    /// Resolves a spec against an environment, normally the application's.
    pub(crate) fn new(
        spec: &StdioSpec,
        inherited: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        check(spec)?;
        let inherited: BTreeMap<_, _> = inherited.into_iter().collect();
        let fallback_path = path_of(&inherited);
        let mut env: BTreeMap<OsString, OsString> = inherited
            .into_iter()
            .filter(|(name, value)| {
                let value = value.to_string_lossy();
                name.to_str().map_or_else(
                    || spec.inherit_env == mcpool_core::EnvInheritance::All,
                    |name| spec.inherit_env.allows(name, &value),
                )
            })
            .collect();
        env.remove(OsStr::new(MARKER));
        for (name, value) in &spec.env {
            env.insert(name.into(), value.expose().into());
        }
        // A child without a PATH would be left with the one that its system has built in.
        let path = path_of(&env).or(fallback_path);
        let program = find_program(spec, path.as_deref())?;
        Ok(Self {
            program,
            args: spec.args.clone(),
            env,
            cwd: spec.cwd.clone(),
        })
    }
}

/// The value of `PATH`, which Windows may spell `Path`.
fn path_of(env: &BTreeMap<OsString, OsString>) -> Option<OsString> {
    let is_path = |name: &OsString| {
        if cfg!(windows) {
            name.eq_ignore_ascii_case("PATH")
        } else {
            name == "PATH"
        }
    };
    env.iter()
        .find(|(name, _)| is_path(name))
        .map(|(_, value)| value.clone())
}

/// Refuses what the operating system would refuse with a worse message.
fn check(spec: &StdioSpec) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidSpec, message));
    if spec.command.is_empty() {
        return invalid("the command is empty".to_owned());
    }
    if let Some(name) = spec
        .env
        .keys()
        .find(|name| name.is_empty() || name.contains(['=', '\0']))
    {
        return invalid(format!("{name:?} cannot be the name of a variable"));
    }
    if let Some(name) = spec
        .env
        .iter()
        .find(|(_, value)| value.expose().contains('\0'))
        .map(|(name, _)| name)
    {
        return invalid(format!("the variable {name} holds a NUL character"));
    }
    if spec.command.contains('\0') || spec.args.iter().any(|arg| arg.contains('\0')) {
        return invalid("the command or an argument holds a NUL character".to_owned());
    }
    if let Some(cwd) = &spec.cwd
        && !cwd.is_dir()
    {
        return invalid(format!(
            "the working directory {} does not exist, or is not a directory",
            cwd.display()
        ));
    }
    Ok(())
}

/// Looks a program up as the child would: in its `PATH`, and a relative path in its directory.
fn find_program(spec: &StdioSpec, path: Option<&OsStr>) -> Result<PathBuf> {
    let own = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let cwd = match &spec.cwd {
        Some(cwd) => own.join(cwd),
        None => own,
    };
    // A relative entry of PATH means the child's directory, as it does for the child's own exec.
    let path = path.and_then(|path| {
        let entries = std::env::split_paths(path).map(|entry| cwd.join(entry));
        std::env::join_paths(entries).ok()
    });
    which::which_in(&spec.command, path.clone(), &cwd).map_err(|source| {
        let given = Path::new(&spec.command);
        let is_path = given.components().count() > 1;
        let words = spec.command.trim().split_once(char::is_whitespace);
        let line = words.filter(|(program, _)| which::which_in(program, path, &cwd).is_ok());
        let message = if let Some((program, arguments)) = line {
            let arguments: Vec<&str> = arguments.split_whitespace().collect();
            format!(
                "there is no program of the name {:?}: no shell splits it; write \"command\": \
                 {program:?}, \"args\": {arguments:?}",
                spec.command
            )
        } else if is_path && cwd.join(given).exists() {
            format!(
                "{} is not an executable file; check the path, and whether it may be executed",
                spec.command
            )
        } else if is_path {
            let start = match given.is_absolute() {
                true => String::new(),
                false => format!(" in {}, where the server starts", cwd.display()),
            };
            format!("{} does not exist{start}; check the path", spec.command)
        } else {
            format!(
                "the command {} was not found in the server's PATH; install it or give its full path",
                spec.command
            )
        };
        Error::new(ErrorKind::CommandNotFound, message).with_source(source)
    })
}

/// The error for a program that was found and could not be started.
pub(crate) fn spawn_error(plan: &Plan, source: io::Error) -> Error {
    let program = plan.program.display();
    let (kind, message) = match source.kind() {
        io::ErrorKind::NotFound => (
            ErrorKind::CommandNotFound,
            format!("{program} could not be run: the interpreter in its first line is missing"),
        ),
        io::ErrorKind::PermissionDenied => (
            ErrorKind::CommandNotFound,
            format!("{program} could not be run: permission denied"),
        ),
        _ => (ErrorKind::Spawn, format!("{program} could not be started")),
    };
    Error::new(kind, message).with_source(source)
}

#[cfg(all(test, unix))]
mod tests {
    use mcpool_core::EnvInheritance;

    use super::*;

    fn vars(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.env.keys().filter_map(|name| name.to_str()).collect()
    }

    #[test]
    fn what_is_inherited() {
        let own = vars(&[
            ("PATH", "/usr/bin:/bin"),
            ("LC_ALL", "C"),
            ("TOKEN", "canary"),
            ("EXTRA", "1"),
            (MARKER, "of-an-outer-application"),
        ]);
        let plan = |inherit| {
            let spec = StdioSpec::new("sh")
                .with_inherit_env(inherit)
                .with_env("A", "b");
            Plan::new(&spec, own.clone()).unwrap()
        };
        assert_eq!(
            names(&plan(EnvInheritance::SafeList)),
            ["A", "LC_ALL", "PATH"]
        );
        assert_eq!(
            names(&plan(EnvInheritance::Names(vec!["EXTRA".into()]))),
            ["A", "EXTRA", "LC_ALL", "PATH"]
        );
        assert_eq!(names(&plan(EnvInheritance::Nothing)), ["A"]);
        assert_eq!(
            names(&plan(EnvInheritance::All)),
            ["A", "EXTRA", "LC_ALL", "PATH", "TOKEN"]
        );
    }

    /// A password in the address of a proxy is a secret like any other.
    #[test]
    fn a_proxy_with_a_password_is_inherited_by_name_only() {
        let own = vars(&[
            ("PATH", "/usr/bin:/bin"),
            ("https_proxy", "http://me:canary@proxy:3128"),
            ("HTTP_PROXY", "http://proxy:3128"),
        ]);
        for (inherit, wanted) in [
            (EnvInheritance::SafeList, vec!["HTTP_PROXY", "PATH"]),
            (
                EnvInheritance::Names(vec!["https_proxy".into()]),
                vec!["HTTP_PROXY", "PATH", "https_proxy"],
            ),
        ] {
            let spec = StdioSpec::new("sh").with_inherit_env(inherit);
            assert_eq!(names(&Plan::new(&spec, own.clone()).unwrap()), wanted);
        }
    }

    #[test]
    fn the_program_is_looked_up_in_the_childs_path() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("only-here");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        let own = vars(&[("PATH", "/usr/bin:/bin")]);
        let spec = StdioSpec::new("only-here");
        let with_path = spec
            .clone()
            .with_env("PATH", dir.path().to_str().unwrap().to_owned());

        let error = Plan::new(&with_path, own.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommandNotFound, "not executable");

        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(Plan::new(&with_path, own.clone()).unwrap().program, program);
        let error = Plan::new(&spec, own.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommandNotFound);
        assert!(error.is_permanent());

        let program = program.canonicalize().unwrap();
        for relative in [
            StdioSpec::new("./only-here").with_cwd(dir.path()),
            StdioSpec::new("only-here")
                .with_cwd(dir.path())
                .with_env("PATH", "bin:."),
        ] {
            let found = Plan::new(&relative, own.clone()).unwrap().program;
            assert!(found.is_absolute());
            assert_eq!(found.canonicalize().unwrap(), program);
        }
    }

    #[test]
    fn what_cannot_work_is_said() {
        for (spec, word) in [
            (StdioSpec::new(""), "empty"),
            (StdioSpec::new("sh").with_env("A=B", "x"), "variable"),
            (StdioSpec::new("sh").with_env("A", "x\0y"), "NUL"),
            (StdioSpec::new("sh").with_args(["\0"]), "NUL"),
            (
                StdioSpec::new("sh").with_cwd("/does/not/exist"),
                "/does/not/exist",
            ),
        ] {
            let error = Plan::new(&spec, vars(&[("PATH", "/usr/bin:/bin")])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSpec);
            assert!(error.message().contains(word), "{error}");
        }
        let own = || vars(&[("PATH", "/usr/bin:/bin")]);
        for line in ["sh server.sh --stdio", "/bin/sh -c true", " sh x"] {
            let error = Plan::new(&StdioSpec::new(line), own()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CommandNotFound, "{line}");
            assert!(error.message().contains("\"args\": ["), "{error}");
        }
        for name in ["no-such-program x", "/opt/My Tools/server"] {
            let error = Plan::new(&StdioSpec::new(name), own()).unwrap_err();
            assert!(!error.message().contains("arguments"), "{error}");
        }
        let spec = StdioSpec::new("/bin/does-not-exist");
        let error = Plan::new(&spec, vars(&[])).unwrap_err();
        assert!(error.message().contains("does not exist"), "{error}");
    }
}
