//! `mcpool demo`

use crate::support::Place;

#[test]
fn it_ends_with_no_process_left() {
    let run = Place::empty().run(&["demo"]);
    let text = run.stdout();
    assert_eq!(run.code(), 0, "{text}\n{}", run.stderr());
    for wanted in ["calculator__add", "ready again", "processes left: 0"] {
        assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
    }
}

#[test]
fn its_summary_is_json_for_programs() {
    let summary = Place::empty().run(&["demo", "--json"]).json(0);
    assert_eq!(summary["servers"], 3);
    assert_eq!(summary["tools"], 6);
    assert_eq!(summary["calls"], 4);
    assert_eq!(summary["processes_left"], 0);
}
