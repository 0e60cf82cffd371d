//! The verbs over a requester with a script.
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use super::*;
use crate::{
    ConnectionInfo, Delivery, Limits, Notices, PeerInfo, ProtocolVersion, RpcError,
    ServerCapabilities, ServerName, TransportKind,
};

struct Script {
    name: ServerName,
    answers: Mutex<VecDeque<Result<Raw>>>,
    asked: Mutex<Vec<Request>>,
    limits: Limits,
    info: Option<Arc<ConnectionInfo>>,
}

impl Script {
    fn new(answers: &[&str]) -> Self {
        let answers = answers
            .iter()
            .map(|text| Raw::from_text((*text).to_owned()))
            .collect();
        Self {
            name: "files".parse().unwrap(),
            answers: Mutex::new(answers),
            asked: Mutex::default(),
            limits: Limits::default(),
            info: None,
        }
    }

    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let text = |request: &Request| {
            let params = request.params.as_ref().map_or("", Raw::get);
            format!("{} {params}", request.method)
        };
        asked.iter().map(text).collect()
    }
}

#[async_trait]
impl Requester for Script {
    fn server(&self) -> &ServerName {
        &self.name
    }

    fn info(&self) -> Option<Arc<ConnectionInfo>> {
        self.info.clone()
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    async fn request(&self, request: &Request, _options: &RequestOptions) -> Result<Raw> {
        self.asked.lock().unwrap().push(request.clone());
        let next = self.answers.lock().unwrap().pop_front();
        next.expect("the script is long enough")
    }

    fn notices(&self) -> Notices {
        Notices::ended()
    }
}

const TOOL: &str = r#"{"name":"a","inputSchema":{"type":"object"},"x-vendor":1e999}"#;

#[tokio::test]
async fn a_page_says_where_it_goes_on_whatever_stands_beside_it() {
    let first = format!(r#"{{"nextCursor":"1","tools":[{TOOL}],"nextCursor":"2","ttlMs":"?"}}"#);
    let last = r#"{"tools":[]}"#;
    let script = Script::new(&[&first, last]);
    assert_eq!(script.list_tools().await.unwrap().items.len(), 1);
    assert_eq!(script.asked()[1], r#"tools/list {"cursor":"2"}"#);
}

#[tokio::test]
async fn a_call_sends_its_arguments_and_keeps_what_the_type_does_not_know() {
    let text = r#"{"content":[{"type":"text","text":"hi"}],"vendor":{"n":1e999}}"#;
    let script = Script::new(&[text, text]);
    let reply = script.call_tool("echo", json!({"m": 1})).await.unwrap();
    assert_eq!(reply.content.len(), 1);
    assert_eq!(reply.raw().get(), text);
    assert!(reply.odd().is_empty());
    script.call_tool("echo", ()).await.unwrap();
    assert_eq!(
        script.asked(),
        [
            r#"tools/call {"name":"echo","arguments":{"m":1}}"#,
            r#"tools/call {"name":"echo"}"#
        ]
    );
    let error = script.call_tool("echo", [1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn what_does_not_fit_is_left_out_and_named() {
    let text = r#"{"content":[{"type":"text","text":"a"},{"type":"hologram"}],
        "structuredContent":{"n":1e999},"isError":"yes"}"#;
    let script = Script::new(&[text, r#"{}"#, r#"{"content":{"type":"text","text":"one"}}"#]);
    let reply = script.call_tool("t", ()).await.unwrap();
    assert_eq!(reply.content.len(), 1);
    assert_eq!(reply.odd().len(), 3, "{:?}", reply.odd());
    assert!(reply.raw().get().contains("hologram"));
    assert!(script.call_tool("t", ()).await.unwrap().content.is_empty());
    assert_eq!(script.call_tool("t", ()).await.unwrap().content.len(), 1);
}

#[tokio::test]
async fn too_many_entries_are_not_read_one_by_one() {
    let entries = |count: usize| format!(r#"{{"content":[{}]}}"#, vec!["1"; count].join(","));
    let (most, over) = (entries(65_536), entries(65_537));
    let script = Script::new(&[&most, &over]);
    let reply = script.call_tool("t", ()).await.unwrap();
    assert_eq!(reply.odd().last().unwrap(), "and 65516 more");
    let error = script.call_tool("t", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert_eq!(error.delivery(), Delivery::Answered);
    assert!(error.message().contains("65536"), "{error}");
    assert_eq!(error.raw().unwrap().get(), over);
}

#[tokio::test]
async fn many_misfits_are_counted() {
    let text = format!(
        r#"{{"content":[{}{{"type":"text","text":"a"}}]}}"#,
        "1,".repeat(1000)
    );
    let reply = Script::new(&[&text]).call_tool("t", ()).await.unwrap();
    assert_eq!(reply.content.len(), 1);
    assert_eq!(reply.odd().len(), 21, "{:?}", reply.odd());
    assert!(reply.odd()[19].starts_with("content block 20: "));
    assert_eq!(reply.odd()[20], "and 980 more");
}

#[tokio::test]
async fn a_result_that_cannot_be_read_was_answered_and_is_kept() {
    let script = Script::new(&["5", r#"{"resultType":"maybe"}"#]);
    for kept in ["5", r#"{"resultType":"maybe"}"#] {
        let error = script.call_tool("t", ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert_eq!(error.delivery(), crate::Delivery::Answered);
        assert_eq!(error.raw().unwrap().get(), kept);
    }
}

#[tokio::test]
async fn pages_are_walked_entry_by_entry() {
    let first = format!(r#"{{"tools":[{TOOL},{{"name":"bad"}},7],"nextCursor":"2","ttlMs":9}}"#);
    let second = format!(r#"{{"tools":[{TOOL}],"ttlMs":5}}"#);
    let script = Script::new(&[&first, &second]);
    let list = script.list_tools().await.unwrap();
    assert_eq!(list.items.len(), 1);
    assert_eq!(list.items[0].raw().get(), TOOL);
    let rejected: Vec<&str> = list.rejected.iter().map(|item| &*item.name).collect();
    assert_eq!(rejected, ["bad", "#3", "a"]);
    assert_eq!(list.ttl, Some(std::time::Duration::from_millis(5)));
    assert_eq!(list.incomplete, None);
    assert_eq!(script.asked()[1], r#"tools/list {"cursor":"2"}"#);
}

#[tokio::test]
async fn a_resource_without_a_name_is_called_by_its_uri() {
    let page = r#"{"resources":[{"uri":"a://1"},{"uri":"a://2","name":null},{"name":"x"},
        {"uri":"a://3","name":7},{"uri":"a://4","name":"n"}]}"#;
    let list = Script::new(&[page]).list_resources().await.unwrap();
    let names: Vec<&str> = list.values().map(|resource| &*resource.name).collect();
    assert_eq!(names, ["a://1", "a://2", "n"]);
    assert_eq!(list.items[0].raw().get(), r#"{"uri":"a://1"}"#);
    assert_eq!(list.items[0].odd(), ["it has no name"]);
    assert_eq!(list.rejected.len(), 2);
    let page = r#"{"resourceTemplates":[{"uriTemplate":"a://{n}"}]}"#;
    let list = Script::new(&[page])
        .list_resource_templates()
        .await
        .unwrap();
    assert_eq!(list.items[0].name, "a://{n}");
}

#[tokio::test]
async fn over_modern_http_a_tool_whose_header_breaks_a_rule_is_left_out_and_named() {
    let bad =
        r#"{"name":"b","inputSchema":{"properties":{"n":{"type":"number","x-mcp-header":"N"}}}}"#;
    let page = format!(r#"{{"tools":[{TOOL},{bad}]}}"#);
    for (transport, kept) in [(TransportKind::Http, 1), (TransportKind::Stdio, 2)] {
        let mut script = Script::new(&[&page]);
        let peer = PeerInfo::default().with_capabilities(ServerCapabilities::tools_only());
        let version = ProtocolVersion::V_2026_07_28;
        let info = ConnectionInfo::new(script.name.clone(), transport, version, peer);
        script.info = Some(Arc::new(info));
        let listing = script.list_tools().await.unwrap();
        assert_eq!(listing.items.len(), kept);
        assert_eq!(listing.rejected.len(), 2 - kept);
    }
}

#[tokio::test]
async fn a_cursor_that_repeats_keeps_what_was_listed() {
    let page = format!(r#"{{"tools":[{TOOL}],"nextCursor":"x"}}"#);
    let script = Script::new(&[&page, &page]);
    let list = script.list_tools().await.unwrap();
    assert_eq!(list.items.len(), 1);
    assert!(list.incomplete.unwrap().contains("repeated a cursor"));
}

#[tokio::test]
async fn an_empty_cursor_is_followed_once_and_may_mean_the_end() {
    let page = format!(r#"{{"tools":[{TOOL}],"nextCursor":""}}"#);
    let script = Script::new(&[&page, &page]);
    let list = script.list_tools().await.unwrap();
    assert_eq!((list.items.len(), list.rejected.len()), (1, 0));
    assert_eq!(list.incomplete, None);
    let script = Script::new(&[&page]);
    let refused = RpcError::new(RpcError::INVALID_PARAMS, "what cursor?");
    script
        .answers
        .lock()
        .unwrap()
        .push_back(Err(Error::from_rpc(refused)));
    assert_eq!(script.list_tools().await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn too_much_is_an_error_of_the_list() {
    let page = |next: usize| format!(r#"{{"tools":[{TOOL},{TOOL}],"nextCursor":"{next}"}}"#);
    let pages: Vec<String> = (0..4).map(page).collect();
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    for (change, word) in [
        ((|l| l.max_pages = 2) as fn(&mut Limits), "max_pages"),
        (|l| l.max_list_entries = 3, "max_list_entries"),
        (|l| l.max_list_bytes = 200, "max_list_bytes"),
    ] {
        let mut script = Script::new(&pages);
        change(&mut script.limits);
        let error = script.list_tools().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(error.message().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_list_without_its_array_is_empty_and_says_so() {
    for answer in [r#"{}"#, r#"{"tools":null}"#, r#"{"tools":"none"}"#] {
        let list = Script::new(&[answer]).list_tools().await.unwrap();
        assert!(list.items.is_empty());
        assert!(list.incomplete.is_some(), "{answer}");
    }
}

#[tokio::test]
async fn options_are_merged_and_the_request_has_the_last_word() {
    let group = RequestOptions::new()
        .with_timeout(std::time::Duration::from_secs(9))
        .with_max_total(std::time::Duration::from_secs(99));
    let own = RequestOptions::new().with_timeout(std::time::Duration::from_secs(1));
    let merged = own.over(&group);
    assert_eq!(merged.timeout, Some(std::time::Duration::from_secs(1)));
    assert_eq!(merged.max_total, Some(std::time::Duration::from_secs(99)));
    let script = Script::new(&[r#"{"content":[]}"#]);
    script
        .with_options(&group)
        .call_tool("t", ())
        .await
        .unwrap();
}
