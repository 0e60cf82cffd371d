//! Reloads: every way of saving is seen, and a broken file leaves what runs.

use std::{fs, path::Path, time::Duration};

use mcpool_config::{Loader, Reload, Watcher};

const PATIENCE: Duration = Duration::from_secs(60);

fn text(command: &str) -> String {
    format!("{{ \"mcpServers\": {{ \"a\": {{ \"command\": \"{command}\" }} }} }}\n")
}

async fn next(watcher: &mut Watcher) -> Reload {
    tokio::time::timeout(PATIENCE, watcher.next())
        .await
        .expect("a reload")
        .unwrap()
}

/// Waits until this command is in force; other reloads on the way are ignored.
async fn until(watcher: &mut Watcher, command: &str) {
    loop {
        if let Reload::Applied(loaded) = next(watcher).await
            && loaded
                .entry("a")
                .is_some_and(|entry| entry.settings.command.as_deref() == Some(command))
        {
            return;
        }
    }
}

fn save_by_rename(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_saving_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(&path, text("one")).unwrap();
    let (loaded, mut watcher) = Watcher::start(Loader::new().with_file(&path)).unwrap();
    assert_eq!(loaded.servers.len(), 1);
    fs::write(&path, text("two")).unwrap();
    until(&mut watcher, "two").await;
    save_by_rename(&path, &text("three"));
    until(&mut watcher, "three").await;
    // Broken, and mended.
    fs::write(&path, "{ \"mcpServers\": {").unwrap();
    let Reload::Rejected { problems, .. } = next(&mut watcher).await else {
        panic!()
    };
    assert_eq!(problems[0].code, "syntax");
    // The entry of a running server is broken: it is not torn down.
    fs::write(
        &path,
        "{ \"mcpServers\": { \"a\": { \"comand\": \"x\" } } }",
    )
    .unwrap();
    let Reload::Rejected { problems, .. } = next(&mut watcher).await else {
        panic!()
    };
    assert!(
        problems
            .iter()
            .any(|problem| problem.server.as_deref() == Some("a"))
    );
    // Removed, and made again.
    fs::remove_file(&path).unwrap();
    let Reload::Rejected { error, .. } = next(&mut watcher).await else {
        panic!()
    };
    assert!(error.unwrap().to_string().contains("no such file"));
    fs::write(&path, text("four")).unwrap();
    until(&mut watcher, "four").await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_turned_link_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two, link) = (
        folder.path().join("one"),
        folder.path().join("two"),
        folder.path().join("mcp.json"),
    );
    fs::write(&one, text("one")).unwrap();
    fs::write(&two, text("two")).unwrap();
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let (_, mut watcher) = Watcher::start(Loader::new().with_file(&link)).unwrap();
    let beside = folder.path().join("new");
    std::os::unix::fs::symlink(&two, &beside).unwrap();
    fs::rename(&beside, &link).unwrap();
    until(&mut watcher, "two").await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_target_of_a_link_is_followed_into_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["near", "one", "two"] {
        fs::create_dir(at(name)).unwrap();
    }
    let link = at("near/mcp.json");
    fs::write(&link, text("plain")).unwrap();
    let (_, mut watcher) = Watcher::start(Loader::new().with_file(&link)).unwrap();
    // What is no link becomes one, by way of another link in a third directory.
    fs::write(at("one/x"), text("one")).unwrap();
    std::os::unix::fs::symlink(at("one/x"), at("two/way")).unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(at("two/way"), &link).unwrap();
    until(&mut watcher, "one").await;
    fs::write(at("one/x"), text("changed")).unwrap();
    until(&mut watcher, "changed").await;
    // The link in the middle is turned.
    fs::write(at("two/x"), text("two")).unwrap();
    std::os::unix::fs::symlink("x", at("two/new")).unwrap();
    fs::rename(at("two/new"), at("two/way")).unwrap();
    until(&mut watcher, "two").await;
    fs::write(at("two/x"), text("turned")).unwrap();
    until(&mut watcher, "turned").await;
    // A directory that is made again is another one.
    fs::remove_dir_all(at("two")).unwrap();
    let Reload::Rejected { .. } = next(&mut watcher).await else {
        panic!()
    };
    fs::create_dir(at("two")).unwrap();
    fs::write(at("two/way"), text("again")).unwrap();
    until(&mut watcher, "again").await;
    fs::write(at("two/way"), text("end")).unwrap();
    until(&mut watcher, "end").await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_the_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(&path, text("one")).unwrap();
    let (_, mut watcher) = Watcher::start(Loader::new().with_file(&path)).unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
    fs::rename(&pipe, &path).unwrap();
    let Reload::Rejected { error, .. } = next(&mut watcher).await else {
        panic!()
    };
    assert!(error.unwrap().to_string().contains("no regular file"));
    assert!(Watcher::start(Loader::new().with_file(&path)).is_err());
    fs::remove_file(&path).unwrap();
    fs::write(&path, text("two")).unwrap();
    until(&mut watcher, "two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_saves_half_of_them_broken_end_in_the_right_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(&path, text("start")).unwrap();
    let (_, mut watcher) = Watcher::start(Loader::new().with_file(&path)).unwrap();
    let (mut applied, mut rejected) = (0, 0);
    // Twenty bursts of 25 saves, half of them broken; every other burst ends broken.
    for burst in 0..20 {
        let saver = tokio::task::spawn_blocking({
            let path = path.clone();
            move || {
                for n in 0..24 {
                    let good = text(&format!("b{burst}-{n}"));
                    match n % 4 {
                        0 => fs::write(&path, &good).unwrap(),
                        1 => fs::write(&path, &good[..good.len() / 2]).unwrap(),
                        2 => save_by_rename(&path, &good),
                        _ => save_by_rename(&path, "not at all"),
                    }
                }
                if burst % 2 == 0 {
                    save_by_rename(&path, &text(&format!("end-{burst}")));
                } else {
                    fs::write(&path, "{ \"mcpServers\": [").unwrap();
                }
            }
        });
        loop {
            match next(&mut watcher).await {
                Reload::Applied(loaded) => {
                    applied += 1;
                    let command = loaded.entry("a").unwrap().settings.command.clone().unwrap();
                    if command == format!("end-{burst}") {
                        break;
                    }
                    assert!(command.starts_with(&format!("b{burst}-")), "{command}");
                }
                Reload::Rejected { problems, error } => {
                    rejected += 1;
                    assert!(!problems.is_empty() || error.is_some());
                    let last = problems
                        .first()
                        .and_then(|problem| problem.span.as_ref())
                        .is_some_and(|span| span.source().shown_text().contains('['));
                    if burst % 2 == 1 && last {
                        break;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        saver.await.unwrap();
    }
    save_by_rename(&path, &text("end"));
    until(&mut watcher, "end").await;
    println!("501 saves gave {applied} applied and {rejected} rejected reloads, and the right end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_watcher_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(&path, text("one")).unwrap();
    for _ in 0..20 {
        let (_, watcher) = Watcher::start(Loader::new().with_file(&path)).unwrap();
        fs::write(&path, text("two")).unwrap();
        drop(watcher);
    }
    #[cfg(target_os = "linux")]
    {
        // Its threads are named after it; they end by themselves within a tick.
        let threads = || {
            fs::read_dir("/proc/self/task")
                .unwrap()
                .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
                .filter(|name| name.starts_with("notify-rs debou"))
                .count()
        };
        let start = std::time::Instant::now();
        // Other tests of this process have watchers of their own.
        while threads() > 6 {
            assert!(start.elapsed() < PATIENCE, "{} threads are left", threads());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
