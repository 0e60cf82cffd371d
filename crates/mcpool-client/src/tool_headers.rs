//! Which arguments of which tool travel as headers: learnt from the `tools/list` answers that pass
//! (MCP 2026-07-28, "Custom Headers from Tool Parameters").

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mcpool_core::{Limits, ParamHeaders, Raw, Untrusted};
use serde::Deserialize;

/// What was learnt of the tools of one server. Only tools that have such arguments are kept, at
/// most `limits.max_list_entries` of them.
#[derive(Debug)]
pub(crate) struct ToolHeaders {
    most: usize,
    tools: Mutex<HashMap<String, ParamHeaders>>,
}

/// A page of a list, as far as it is looked at here.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Page {
    tools: Vec<Raw>,
    next_cursor: Option<Raw>,
}

impl ToolHeaders {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            most: limits.max_list_entries,
            tools: Mutex::default(),
        }
    }

    /// A page of `tools/list` has passed. Gives the cursor of the next one.
    pub(crate) fn learn(&self, page: &Raw) -> Option<Raw> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let page: Page = page.parse().unwrap_or_default();
        for tool in &page.tools {
            let Ok(Named { name }) = tool.parse() else {
                continue;
            };
            let headers = ParamHeaders::of_tool(tool).unwrap_or_else(|why| {
                // The verbs leave it out of the list, with this reason.
                tracing::warn!(
                    tool = %Untrusted::line(&name),
                    reason = %Untrusted::line(why),
                    "a tool cannot be used"
                );
                ParamHeaders::default()
            });
            let mut tools = self.tools();
            if headers.is_empty() {
                tools.remove(&name);
            } else if tools.len() < self.most || tools.contains_key(&name) {
                tools.insert(name, headers);
            }
        }
        page.next_cursor.filter(|cursor| !cursor.is_null())
    }

    /// The headers of a call of this tool with these parameters.
    pub(crate) fn of_call(&self, tool: &str, params: &Raw) -> Vec<(String, String)> {
        let headers = self.tools().get(tool).cloned();
        headers.map_or_else(Vec::new, |headers| headers.of_call(params))
    }

    fn tools(&self) -> MutexGuard<'_, HashMap<String, ParamHeaders>> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_learnt_is_the_newest_and_bounded() {
        let mut limits = Limits::default();
        limits.max_list_entries = 2;
        let headers = ToolHeaders::new(&limits);
        let tool = |name: &str, header: Option<&str>| {
            json!({"name": name, "inputSchema": {"properties": {
                "a": {"type": "string", "x-mcp-header": header.unwrap_or("bad name")},
            }}})
        };
        let learn = |tools: serde_json::Value| {
            headers.learn(&Raw::of(&json!({"tools": tools, "nextCursor": "c"})).unwrap())
        };
        let of = |name: &str| {
            let params = Raw::of(&json!({"arguments": {"a": "x"}})).unwrap();
            headers
                .of_call(name, &params)
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        let next = learn(json!([tool("one", Some("A")), {"name": 5}, tool("two", Some("B"))]));
        assert_eq!(next.unwrap().get(), "\"c\"");
        learn(json!([tool("three", Some("C"))]));
        assert_eq!(
            (of("one"), of("two"), of("three")),
            (
                vec!["Mcp-Param-A".into()],
                vec!["Mcp-Param-B".into()],
                vec![]
            )
        );
        learn(json!([tool("one", None), tool("two", Some("D"))]));
        assert_eq!(
            (of("one"), of("two")),
            (vec![], vec!["Mcp-Param-D".to_owned()])
        );
        assert_eq!(headers.learn(&Raw::empty_object()), None);
    }
}
